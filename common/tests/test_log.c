/* What journald's socket and stderr get. */
#include "atl_test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/log.h"

struct fixture {
    char dir[32];
    char path[64];
    int journal;
};

static int setup(void **state)
{
    struct fixture *f = atl_new0(struct fixture);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/atl-log-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/socket", f->dir);
    f->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(atl_copy(address.sun_path, sizeof address.sun_path, f->path));
    assert_int_equal(bind(f->journal, (const struct sockaddr *)&address, sizeof address), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atl_log_close();
    (void)close(f->journal);
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void an_event_reaches_journald_with_all_its_fields(void **state)
{
    const struct fixture *f = *state;
    atl_log_open(
        &(const struct atl_log_options){.identifier = "atoll-test", .node = "pve1", .journal_path = f->path});
    const struct atl_log_field fields[] = {{"ATOLL_VMID", "100"}, {"ATOLL_TEXT", "two\nlines"}};
    atl_log_event(ATL_NOTICE, "guest-started", fields, ATL_COUNT(fields), "guest %d started", 100);
    char text[1024];
    ssize_t size = recv(f->journal, text, sizeof text - 1, 0);
    assert_true(size > 0);
    text[size] = '\0';
    assert_non_null(strstr(text, "MESSAGE=guest 100 started\n"));
    assert_non_null(strstr(text, "\nPRIORITY=5\n"));
    assert_non_null(strstr(text, "\nSYSLOG_IDENTIFIER=atoll-test\n"));
    assert_non_null(strstr(text, "\nATOLL_EVENT=guest-started\n"));
    assert_non_null(strstr(text, "\nATOLL_NODE=pve1\n"));
    assert_non_null(strstr(text, "\nATOLL_VMID=100\n"));
    assert_non_null(strstr(text, "\nCODE_FILE=test_log.c\n"));
    static const char binary[] = "\nATOLL_TEXT\n\x09\0\0\0\0\0\0\0two\nlines\n";
    assert_non_null(memmem(text, (size_t)size, binary, sizeof binary - 1));
}

static void events_above_the_level_are_not_written(void **state)
{
    const struct fixture *f = *state;
    atl_log_open(&(const struct atl_log_options){
        .identifier = "atoll-test", .journal_path = f->path, .level = ATL_WARNING});
    atl_log(ATL_INFO, "quiet", "not said");
    char text[512];
    assert_int_equal(recv(f->journal, text, sizeof text, 0), -1);
    atl_log(ATL_WARNING, "loud", "said");
    assert_true(recv(f->journal, text, sizeof text, 0) > 0);
}

static void a_full_journal_does_not_block_and_is_told_later(void **state)
{
    const struct fixture *f = *state;
    atl_log_open(&(const struct atl_log_options){.identifier = "atoll-test", .journal_path = f->path});
    for (int i = 0; i < 2000; i++) /* more than a socket holds */
        atl_log(ATL_INFO, "many", "event %d", i);
    char text[1024];
    while (recv(f->journal, text, sizeof text, 0) > 0)
        ;
    atl_log(ATL_INFO, "after", "again");
    ssize_t size = recv(f->journal, text, sizeof text - 1, 0);
    assert_true(size > 0);
    text[size] = '\0';
    assert_non_null(strstr(text, "log events were lost"));
    assert_true(recv(f->journal, text, sizeof text, 0) > 0);
}

static void without_journald_it_is_one_clean_line_on_stderr(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int saved = dup(STDERR_FILENO);
    atl_log_open(&(const struct atl_log_options){.identifier = "atoll-test", .journal_path = "/nonexistent"});
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    const struct atl_log_field fields[] = {{"ATOLL_VMID", "100"}, {"ATOLL_TASK", "x"}};
    atl_log_event(ATL_ERROR, "broken", fields, ATL_COUNT(fields), "what\n<6>forged");
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    char text[512];
    ssize_t size = read(fds[0], text, sizeof text - 1);
    assert_true(size > 0);
    text[size] = '\0';
    char expected[256];
    (void)snprintf(expected, sizeof expected,
                   "<3>atoll-test[%d] broken: what?<6>forged (ATOLL_VMID=100 ATOLL_TASK=x)\n", (int)getpid());
    assert_string_equal(text, expected);
    (void)close(saved);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void keep_event(enum atl_level level, const char *event, const char *message, void *user)
{
    (void)level;
    (void)message;
    char *seen = user;
    (void)snprintf(seen + strlen(seen), 16, "%s", event);
}

static void a_test_can_look_at_what_is_logged(void **state)
{
    (void)state;
    char seen[64] = "";
    atl_log_set_sink(keep_event, seen);
    atl_log(ATL_ERROR, "one", "x");
    atl_log(ATL_DEBUG, "no", "x");
    atl_log(ATL_INFO, "two", "x");
    atl_log_set_sink(NULL, NULL);
    assert_string_equal(seen, "onetwo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_reaches_journald_with_all_its_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(events_above_the_level_are_not_written, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_journal_does_not_block_and_is_told_later, setup, teardown),
        cmocka_unit_test_setup_teardown(without_journald_it_is_one_clean_line_on_stderr, setup, teardown),
        cmocka_unit_test_setup_teardown(a_test_can_look_at_what_is_logged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
