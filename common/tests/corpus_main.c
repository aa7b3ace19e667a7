/* Runs the recorded inputs of one fuzzer (ATL_CORPUS) in the daily build. */
#include "atl_test.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void recorded_inputs_reach_their_fixed_point(void **state)
{
    (void)state;
    const char *top = getenv("ATL_SOURCE_DIR");
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/common/tests/corpus/%s", top != NULL ? top : ".", ATL_CORPUS);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        char path[1024];
        struct atl_buf input = {0};
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        assert_true(atl_test_read(path, &input));
        assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)input.data, input.length), 0);
        atl_buf_done(&input);
        count++;
    }
    (void)closedir(dir);
    assert_true(count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_inputs_reach_their_fixed_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
