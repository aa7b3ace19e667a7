/*
 * The engine for one node: one SQLite file with the tree, its revision and the recorded request ids.
 *
 * Write-ahead log and synchronous=FULL: a commit returns after one sync of the log. The lock is exclusive and
 * held while we run, so that no second config-store can open the same tree, and no shared memory is needed.
 *
 * Each page that a commit touches goes to the log whole, so the tables are laid out to touch few: a file of
 * up to 4 KiB that changes is one page (with rowids; without them 1 KiB would already need an overflow page),
 * the recorded requests grow at one end and are forgotten at the other, and the newest of them says the
 * revision, which has a row of its own for commits without a request.
 */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "drivers/engine.h"

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    PUT,
    REMOVE,
    RECORD,
    FORGET,
    REVISION,
    EPOCH,
    STATEMENTS,
};

static const char *const texts[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PUT] = ("INSERT INTO tree(path, number, bytes) VALUES(?1, ?2, ?3)"
             " ON CONFLICT(path) DO UPDATE SET number = excluded.number, bytes = excluded.bytes"),
    [REMOVE] = "DELETE FROM tree WHERE path = ?1",
    [RECORD] = "INSERT OR REPLACE INTO done(id, number, at) VALUES(?1, ?2, ?3)",
    [FORGET] = "DELETE FROM done WHERE number <= ?1",
    [REVISION] = "UPDATE revision SET number = ?1",
    [EPOCH] = "UPDATE revision SET epoch = ?1",
};

/* The order of the first two matters: exclusive before the first access of the log, so that it needs no
 * shared memory. */
static const char *const schema[] = {
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA trusted_schema=OFF",
    "CREATE TABLE IF NOT EXISTS tree(path TEXT PRIMARY KEY, number INTEGER, bytes BLOB)",
    "CREATE TABLE IF NOT EXISTS done(number INTEGER PRIMARY KEY, at INTEGER, id BLOB)",
    "CREATE TABLE IF NOT EXISTS revision(one INTEGER PRIMARY KEY, epoch INTEGER, number INTEGER)",
    "INSERT OR IGNORE INTO revision(one, epoch, number) VALUES(1, 1, 0)",
};

/* From the tables of the first layout, whole or not at all. */
static const char *const move_old =
    "BEGIN IMMEDIATE;"
    "INSERT INTO tree(path, number, bytes) SELECT path, number, bytes FROM file;"
    "INSERT OR REPLACE INTO done(number, at, id) SELECT number, at, id FROM request;"
    "DROP TABLE file;"
    "DROP TABLE request;"
    "COMMIT";

struct engine {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
};

static enum atl_code fail(const struct engine *engine, const char *doing, struct atl_error *err)
{
    int rc = sqlite3_errcode(engine->db);
    enum atl_code code = rc == SQLITE_FULL || rc == SQLITE_BUSY ? ATL_E_LIMIT : ATL_E_IO;
    return atl_fail(err, code, NULL, "the tree's database failed while %s: %s", doing,
                    sqlite3_errmsg(engine->db));
}

static void engine_close(void *self)
{
    struct engine *engine = self;
    for (size_t i = 0; i < STATEMENTS; i++)
        (void)sqlite3_finalize(engine->statements[i]); /* repeats an old error at most */
    (void)sqlite3_close(engine->db);                   /* statements are gone: it cannot be busy */
    free(engine);
}

static bool execute(struct engine *engine, const char *text)
{
    return sqlite3_exec(engine->db, text, NULL, NULL, NULL) == SQLITE_OK;
}

static enum atl_code prepare(struct engine *engine, const struct cfg_engine_options *options,
                             struct atl_error *err)
{
    for (size_t i = 0; i < ATL_COUNT(schema); i++)
        if (!execute(engine, schema[i]))
            return fail(engine, "opening", err);
    if (options->relaxed && !execute(engine, "PRAGMA synchronous=NORMAL"))
        return fail(engine, "opening", err);
    if (options->unsafe && !execute(engine, "PRAGMA synchronous=OFF"))
        return fail(engine, "opening", err);
    bool old = sqlite3_table_column_metadata(engine->db, NULL, "file", NULL, NULL, NULL, NULL, NULL, NULL) ==
               SQLITE_OK;
    if (old && !execute(engine, move_old))
        return fail(engine, "bringing its tables up to date", err);
    for (size_t i = 0; i < STATEMENTS; i++)
        if (sqlite3_prepare_v3(engine->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &engine->statements[i],
                               NULL) != SQLITE_OK)
            return fail(engine, "preparing", err);
    return ATL_OK;
}

static enum atl_code engine_open(const struct cfg_engine_options *options, void **ret_self,
                                 struct atl_error *err)
{
    char *path ATL_FREE_AT_EXIT =
        atl_format("%s/%s", options->state_dir, options->name != NULL ? options->name : "tree.db");
    struct engine *engine = atl_new0(struct engine);
    mode_t before = umask(0077); /* tree, log and whatever SQLite makes beside them: 0600 */
    int rc = sqlite3_open_v2(path, &engine->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, options->vfs);
    enum atl_code code = ATL_OK;
    if (rc != SQLITE_OK)
        code = atl_fail(err, ATL_E_IO, NULL, "cannot open '%s': %s", path,
                        engine->db != NULL ? sqlite3_errmsg(engine->db) : "out of memory");
    else
        code = prepare(engine, options, err);
    (void)umask(before);
    if (code != ATL_OK) {
        engine_close(engine);
        return code;
    }
    *ret_self = engine;
    return ATL_OK;
}

static enum atl_code load_revision(struct engine *engine, const struct cfg_engine_sink *sink,
                                   struct atl_error *err)
{
    sqlite3_stmt *query = NULL;
    if (sqlite3_prepare_v2(
            engine->db,
            "SELECT epoch, max(number, (SELECT coalesce(max(number), 0) FROM done)) FROM revision", -1,
            &query, NULL) != SQLITE_OK)
        return fail(engine, "reading the revision", err);
    bool found = sqlite3_step(query) == SQLITE_ROW;
    if (found)
        sink->revision(sink->user, (uint64_t)sqlite3_column_int64(query, 0),
                       (uint64_t)sqlite3_column_int64(query, 1));
    (void)sqlite3_finalize(query);
    return found ? ATL_OK : fail(engine, "reading the revision", err);
}

static enum atl_code load_files(struct engine *engine, const struct cfg_engine_sink *sink,
                                struct atl_error *err)
{
    sqlite3_stmt *query = NULL;
    if (sqlite3_prepare_v2(engine->db, "SELECT path, number, bytes FROM tree ORDER BY path", -1, &query,
                           NULL) != SQLITE_OK)
        return fail(engine, "reading the files", err);
    enum atl_code code = ATL_OK;
    int rc = SQLITE_DONE;
    while (code == ATL_OK && (rc = sqlite3_step(query)) == SQLITE_ROW) {
        const void *bytes = sqlite3_column_blob(query, 2);
        struct cfg_engine_change file = {
            .path = (const char *)sqlite3_column_text(query, 0),
            .bytes = bytes != NULL ? bytes : "",
            .size = (size_t)sqlite3_column_bytes(query, 2),
            .number = (uint64_t)sqlite3_column_int64(query, 1),
        };
        code = sink->file(sink->user, &file, err);
    }
    if (code == ATL_OK && rc != SQLITE_DONE)
        code = fail(engine, "reading the files", err);
    (void)sqlite3_finalize(query);
    return code;
}

static enum atl_code load_requests(struct engine *engine, const struct cfg_engine_sink *sink,
                                   struct atl_error *err)
{
    sqlite3_stmt *query = NULL;
    if (sqlite3_prepare_v2(engine->db, "SELECT id, number, at FROM done ORDER BY number", -1, &query, NULL) !=
        SQLITE_OK)
        return fail(engine, "reading the requests", err);
    int rc;
    while ((rc = sqlite3_step(query)) == SQLITE_ROW) {
        struct cfg_engine_request request = {.number = (uint64_t)sqlite3_column_int64(query, 1),
                                             .at = sqlite3_column_int64(query, 2)};
        if (sqlite3_column_bytes(query, 0) != CFG_REQUEST_ID_SIZE)
            continue;
        memcpy(request.id, sqlite3_column_blob(query, 0), CFG_REQUEST_ID_SIZE);
        sink->request(sink->user, &request);
    }
    enum atl_code code = rc == SQLITE_DONE ? ATL_OK : fail(engine, "reading the requests", err);
    (void)sqlite3_finalize(query);
    return code;
}

static enum atl_code engine_load(void *self, const struct cfg_engine_sink *sink, struct atl_error *err)
{
    struct engine *engine = self;
    enum atl_code code = load_revision(engine, sink, err);
    if (code == ATL_OK)
        code = load_files(engine, sink, err);
    return code == ATL_OK ? load_requests(engine, sink, err) : code;
}

static bool run(struct engine *engine, enum statement which)
{
    sqlite3_stmt *statement = engine->statements[which];
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_DONE)
        return false; /* not reset yet: that keeps the error's text for fail() */
    (void)sqlite3_reset(statement);
    return true;
}

static bool write_change(struct engine *engine, const struct cfg_engine_change *change)
{
    enum statement which = change->bytes != NULL ? PUT : REMOVE;
    sqlite3_stmt *statement = engine->statements[which];
    int rc = sqlite3_bind_text(statement, 1, change->path, -1, SQLITE_STATIC);
    if (which == PUT && rc == SQLITE_OK)
        rc = sqlite3_bind_int64(statement, 2, (sqlite3_int64)change->number);
    if (which == PUT && rc == SQLITE_OK)
        rc = sqlite3_bind_blob64(statement, 3, change->bytes, change->size, SQLITE_STATIC);
    return rc == SQLITE_OK && run(engine, which);
}

static bool write_request(struct engine *engine, const struct cfg_engine_request *request)
{
    sqlite3_stmt *statement = engine->statements[RECORD];
    return sqlite3_bind_blob(statement, 1, request->id, CFG_REQUEST_ID_SIZE, SQLITE_STATIC) == SQLITE_OK &&
           sqlite3_bind_int64(statement, 2, (sqlite3_int64)request->number) == SQLITE_OK &&
           sqlite3_bind_int64(statement, 3, request->at) == SQLITE_OK && run(engine, RECORD);
}

static bool run_number(struct engine *engine, enum statement which, uint64_t number)
{
    return sqlite3_bind_int64(engine->statements[which], 1, (sqlite3_int64)number) == SQLITE_OK &&
           run(engine, which);
}

static bool write_all(struct engine *engine, const struct cfg_engine_commit *commit)
{
    for (size_t i = 0; i < commit->change_count; i++)
        if (!write_change(engine, &commit->changes[i]))
            return false;
    for (size_t i = 0; i < commit->request_count; i++)
        if (!write_request(engine, &commit->requests[i]))
            return false;
    if (commit->forget_through != 0 && !run_number(engine, FORGET, commit->forget_through))
        return false;
    if (commit->epoch != 0 && !run_number(engine, EPOCH, commit->epoch))
        return false;
    bool said = commit->request_count > 0 &&
                commit->requests[commit->request_count - 1].number == commit->number &&
                commit->forget_through < commit->number;
    return said || run_number(engine, REVISION, commit->number);
}

static enum atl_code engine_commit(void *self, const struct cfg_engine_commit *commit, struct atl_error *err)
{
    struct engine *engine = self;
    if (run(engine, BEGIN) && write_all(engine, commit) && run(engine, COMMIT))
        return ATL_OK;
    enum atl_code code = fail(engine, "writing", err);
    for (size_t i = 0; i < STATEMENTS; i++)
        (void)sqlite3_reset(engine->statements[i]); /* repeats the error that was reported */
    if (sqlite3_get_autocommit(engine->db) == 0)
        (void)run(engine,
                  ROLLBACK); /* some errors have rolled back already; a failure leaves it to the next BEGIN */
    return code;
}

const struct cfg_engine_driver cfg_engine_sqlite = {.kind = "sqlite",
                                                    .open = engine_open,
                                                    .load = engine_load,
                                                    .commit = engine_commit,
                                                    .close = engine_close};
