/* The engines: what is committed is loaded again, in the same state; what was forgotten is gone. */
#include "atl_test.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/engine.h"

static char dir[] = "/tmp/atl-engine-XXXXXX";
static struct atl_error err;

struct loaded {
    uint64_t epoch;
    uint64_t number;
    size_t files;
    size_t requests;
    char text[256];
};

static void take_revision(void *user, uint64_t epoch, uint64_t number)
{
    ((struct loaded *)user)->epoch = epoch;
    ((struct loaded *)user)->number = number;
}

static enum atl_code take_file(void *user, const struct cfg_engine_change *file, struct atl_error *error)
{
    (void)error;
    struct loaded *loaded = user;
    size_t used = strlen(loaded->text);
    (void)snprintf(loaded->text + used, sizeof loaded->text - used, "%s@%u=%.*s;", file->path,
                   (unsigned int)file->number, (int)file->size, (const char *)file->bytes);
    loaded->files++;
    return ATL_OK;
}

static void take_request(void *user, const struct cfg_engine_request *request)
{
    (void)request;
    ((struct loaded *)user)->requests++;
}

static void *open_engine(void)
{
    void *engine = NULL;
    const struct cfg_engine_options options = {.state_dir = dir};
    assert_atl_ok(cfg_engine_sqlite.open(&options, &engine, &err), &err);
    return engine;
}

static struct loaded load(void *engine)
{
    struct loaded loaded = {.number = 0};
    const struct cfg_engine_sink sink = {
        .user = &loaded, .revision = take_revision, .file = take_file, .request = take_request};
    assert_atl_ok(cfg_engine_sqlite.load(engine, &sink, &err), &err);
    return loaded;
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static void remove_files(void)
{
    static const char *const names[] = {"tree.db", "tree.db-wal", "tree.db-journal"};
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path); /* not all are there */
    }
}

static int remove_dir(void **state)
{
    (void)state;
    remove_files();
    return rmdir(dir);
}

static void what_is_committed_is_loaded_again(void **state)
{
    (void)state;
    void *engine = open_engine();
    assert_int_equal(load(engine).number, 0);
    const struct cfg_engine_change changes[] = {
        {.path = "a", .bytes = "1", .size = 1, .number = 1},
        {.path = "b", .bytes = "", .size = 0, .number = 1},
        {.path = "a", .bytes = "22", .size = 2, .number = 2},
        {.path = "c", .bytes = "x\0y", .size = 3, .number = 2},
        {.path = "b", .number = 3},
    };
    const struct cfg_engine_request requests[] = {{.id = {1}, .number = 1, .at = 100},
                                                  {.id = {2}, .number = 3, .at = 200}};
    const struct cfg_engine_commit commit = {.changes = changes,
                                             .change_count = ATL_COUNT(changes),
                                             .requests = requests,
                                             .request_count = ATL_COUNT(requests),
                                             .number = 3};
    assert_atl_ok(cfg_engine_sqlite.commit(engine, &commit, &err), &err);
    cfg_engine_sqlite.close(engine);
    engine = open_engine();
    struct loaded loaded = load(engine);
    assert_int_equal(loaded.epoch, 1);
    assert_int_equal(loaded.number, 3);
    assert_int_equal(loaded.files, 2);
    assert_int_equal(strncmp(loaded.text, "a@2=22;c@2=x", 12), 0);
    assert_int_equal(loaded.requests, 2);
    const struct cfg_engine_commit forget = {.number = 3, .forget_through = 1};
    assert_atl_ok(cfg_engine_sqlite.commit(engine, &forget, &err), &err);
    assert_int_equal(load(engine).requests, 1);
    cfg_engine_sqlite.close(engine);
}

static off_t log_size(void)
{
    char path[128];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/tree.db-wal", dir);
    assert_int_equal(stat(path, &status), 0);
    return status.st_size;
}

/* What a write costs is what it puts into the log: the page of the file and that of the requests. */
static void a_change_of_a_small_file_writes_two_pages(void **state)
{
    (void)state;
    static char text[3000];
    void *engine = open_engine();
    uint64_t number = load(engine).number;
    off_t before = 0;
    for (int i = 0; i < 2; i++) {
        memset(text, 'a' + i, sizeof text);
        number++;
        before = log_size();
        const struct cfg_engine_change change = {
            .path = "small", .bytes = text, .size = sizeof text - (size_t)i, .number = number};
        const struct cfg_engine_request request = {.id = {9}, .number = number, .at = 300};
        const struct cfg_engine_commit commit = {.changes = &change,
                                                 .change_count = 1,
                                                 .requests = &request,
                                                 .request_count = 1,
                                                 .number = number};
        assert_atl_ok(cfg_engine_sqlite.commit(engine, &commit, &err), &err);
    }
    assert_int_equal(log_size() - before, 2 * (4096 + 24));
    cfg_engine_sqlite.close(engine);
    engine = open_engine();
    assert_int_equal(load(engine).number, number); /* though its own row was not written */
    const struct cfg_engine_commit forget = {.number = number, .forget_through = number};
    assert_atl_ok(cfg_engine_sqlite.commit(engine, &forget, &err), &err);
    struct loaded loaded = load(engine);
    assert_int_equal(loaded.requests, 0);
    assert_int_equal(loaded.number, number);
    cfg_engine_sqlite.close(engine);
}

static void a_database_of_the_first_layout_is_taken_over(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/tree.db", dir);
    remove_files();
    sqlite3 *db = NULL;
    mode_t before = umask(0077);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    const char *text = "CREATE TABLE file(path TEXT PRIMARY KEY, number INTEGER, bytes BLOB) WITHOUT ROWID;"
                       "CREATE TABLE request(id BLOB PRIMARY KEY, number INTEGER, at INTEGER) WITHOUT ROWID;"
                       "CREATE TABLE revision(one INTEGER PRIMARY KEY, epoch INTEGER, number INTEGER);"
                       "INSERT INTO revision VALUES(1, 3, 12);"
                       "INSERT INTO file VALUES('a', 11, x'31'), ('b', 12, x'3232');"
                       "INSERT INTO request VALUES(x'00112233445566778899aabbccddeeff', 12, 100);";
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    (void)umask(before);
    for (int i = 0; i < 2; i++) {
        void *engine = open_engine();
        struct loaded loaded = load(engine);
        assert_int_equal(loaded.epoch, 3);
        assert_int_equal(loaded.number, 12);
        assert_string_equal(loaded.text, "a@11=1;b@12=22;");
        assert_int_equal(loaded.requests, 1);
        cfg_engine_sqlite.close(engine);
    }
}

static void the_files_are_for_the_owner_alone(void **state)
{
    (void)state;
    void *engine = open_engine();
    const struct cfg_engine_commit commit = {.number = 4};
    assert_atl_ok(cfg_engine_sqlite.commit(engine, &commit, &err), &err);
    static const char *const names[] = {"tree.db", "tree.db-wal"};
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        char path[128];
        struct stat status;
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
    }
    cfg_engine_sqlite.close(engine);
}

static void two_cannot_hold_it(void **state)
{
    (void)state;
    void *engine = open_engine();
    void *second = NULL;
    const struct cfg_engine_options options = {.state_dir = dir};
    assert_int_equal(cfg_engine_sqlite.open(&options, &second, &err), ATL_E_LIMIT);
    cfg_engine_sqlite.close(engine);
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    void *engine = NULL;
    const struct cfg_engine_options options = {.state_dir = "/nowhere/at/all"};
    assert_int_equal(cfg_engine_sqlite.open(&options, &engine, &err), ATL_E_IO);
    assert_null(engine);
    assert_ptr_equal(cfg_engine_find("sqlite"), &cfg_engine_sqlite);
    assert_null(cfg_engine_find("paper"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_committed_is_loaded_again),
        cmocka_unit_test(a_change_of_a_small_file_writes_two_pages),
        cmocka_unit_test(a_database_of_the_first_layout_is_taken_over),
        cmocka_unit_test(the_files_are_for_the_owner_alone),
        cmocka_unit_test(two_cannot_hold_it),
        cmocka_unit_test(a_folder_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
