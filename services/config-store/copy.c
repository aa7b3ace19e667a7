/* The last applied tree of a cluster, kept on this node. */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/engine.h"
#include "io/log.h"
#include "pure/arena.h"

#define NAME        "last.db"
#define WRITE_AFTER (100 * ATL_MS)
#define WRITE_AGAIN (5 * ATL_SECOND) /* after a failure */
#define TOUCH_EVERY (2 * ATL_SECOND)

struct job { /* what the thread writes; all of it lives in the arena */
    struct atl_arena arena;
    struct cfg_engine_change *changes;
    struct cfg_engine_commit commit;
    enum atl_code code; /* when it is done */
    struct atl_error error;
};

struct cfg_copy {
    struct atl_loop *loop;
    char *path;
    void *engine; /* the thread's, while it runs */
    struct cfg_tree *tree;
    char **dirty; /* paths that changed since the last batch */
    size_t dirty_count;
    size_t dirty_room;
    struct atl_timer *timer;
    atl_ns touched;
    bool loaded; /* the engine has told a revision */
    /* shared with the thread */
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct job *job;  /* to be written */
    struct job *done; /* was written, or failed */
    bool ending;
};

/* --- the thread --------------------------------------------------------------------------------------- */

static void *write_jobs(void *user)
{
    struct cfg_copy *copy = user;
    (void)pthread_mutex_lock(&copy->mutex);
    for (;;) {
        while (copy->job == NULL && !copy->ending)
            (void)pthread_cond_wait(&copy->changed, &copy->mutex);
        struct job *job = copy->job;
        if (job == NULL)
            break;
        (void)pthread_mutex_unlock(&copy->mutex);
        job->code = cfg_engine_sqlite.commit(copy->engine, &job->commit, &job->error);
        (void)pthread_mutex_lock(&copy->mutex);
        copy->job = NULL;
        copy->done = job;
        (void)pthread_cond_broadcast(&copy->changed);
    }
    (void)pthread_mutex_unlock(&copy->mutex);
    return NULL;
}

/* --- batches ------------------------------------------------------------------------------------------ */

static void add_dirty(struct cfg_copy *copy, const char *path)
{
    if (copy->dirty_count == copy->dirty_room) {
        copy->dirty_room = copy->dirty_room == 0 ? 64 : 2 * copy->dirty_room;
        copy->dirty = atl_realloc(copy->dirty, copy->dirty_room * sizeof copy->dirty[0]);
    }
    copy->dirty[copy->dirty_count++] = atl_strdup(path);
}

static void drop_dirty(struct cfg_copy *copy)
{
    for (size_t i = 0; i < copy->dirty_count; i++)
        free(copy->dirty[i]);
    copy->dirty_count = 0;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Copies of all that changed, as it is now. */
static struct job *make_job(struct cfg_copy *copy)
{
    struct job *job = atl_new0(struct job);
    job->changes = atl_arena_array(&job->arena, struct cfg_engine_change, copy->dirty_count + 1);
    if (copy->dirty_count > 1)
        qsort(copy->dirty, copy->dirty_count, sizeof copy->dirty[0], compare_paths);
    size_t count = 0;
    for (size_t i = 0; i < copy->dirty_count; i++) {
        if (i > 0 && strcmp(copy->dirty[i], copy->dirty[i - 1]) == 0)
            continue;
        const struct cfg_file *file = cfg_tree_get(copy->tree, copy->dirty[i]);
        struct cfg_engine_change *change = &job->changes[count++];
        *change = (struct cfg_engine_change){.path = atl_arena_strdup(&job->arena, copy->dirty[i])};
        if (file == NULL)
            continue;
        change->bytes = atl_arena_copy(&job->arena, file->bytes, file->size + 1);
        change->size = file->size;
        change->number = file->number;
    }
    drop_dirty(copy);
    job->commit = (struct cfg_engine_commit){.changes = job->changes,
                                             .change_count = count,
                                             .number = copy->tree->number,
                                             .epoch = copy->tree->epoch};
    return job;
}

/* What could not be written is written with the next batch. False: it failed. */
static bool end_job(struct cfg_copy *copy, struct job *job)
{
    bool good = job->code == ATL_OK;
    if (!good)
        atl_log(ATL_WARNING, "copy-not-written", "the local copy of the tree: %s; trying again",
                job->error.text);
    for (size_t i = 0; !good && i < job->commit.change_count; i++)
        add_dirty(copy, job->changes[i].path);
    atl_arena_done(&job->arena);
    free(job);
    return good;
}

static void on_timer(void *user)
{
    struct cfg_copy *copy = user;
    copy->timer = NULL;
    (void)pthread_mutex_lock(&copy->mutex);
    struct job *done = copy->done;
    bool busy = copy->job != NULL;
    copy->done = NULL;
    (void)pthread_mutex_unlock(&copy->mutex);
    if (done != NULL && !end_job(copy, done)) {
        copy->timer = atl_loop_timer(copy->loop, WRITE_AGAIN, 0, on_timer, copy);
        return;
    }
    if (!busy && copy->dirty_count > 0) {
        struct job *job = make_job(copy);
        (void)pthread_mutex_lock(&copy->mutex);
        copy->job = job;
        (void)pthread_cond_broadcast(&copy->changed);
        (void)pthread_mutex_unlock(&copy->mutex);
        busy = true;
    }
    if (busy) /* to see how it went, and for what has come meanwhile */
        copy->timer = atl_loop_timer(copy->loop, WRITE_AFTER, 0, on_timer, copy);
}

void cfg_copy_note(struct cfg_copy *copy, const char *path)
{
    add_dirty(copy, path);
    if (copy->timer == NULL)
        copy->timer = atl_loop_timer(copy->loop, WRITE_AFTER, 0, on_timer, copy);
}

void cfg_copy_confirmed(struct cfg_copy *copy)
{
    atl_ns now = atl_loop_now(copy->loop);
    if (copy->touched != 0 && now - copy->touched < TOUCH_EVERY)
        return;
    copy->touched = now;
    (void)utimensat(AT_FDCWD, copy->path, NULL, 0); /* a copy that looks older than it is does no harm */
}

/* --- start and end ------------------------------------------------------------------------------------ */

static void load_revision(void *user, uint64_t epoch, uint64_t number)
{
    struct cfg_copy *copy = user;
    copy->loaded = number != 0;
    copy->tree->epoch = copy->loaded ? epoch : 0;
    copy->tree->number = number;
}

static enum atl_code load_file(void *user, const struct cfg_engine_change *file, struct atl_error *err)
{
    struct cfg_copy *copy = user;
    return cfg_tree_load(copy->tree, file->path, file->bytes, file->size, file->number, err);
}

static void load_request(void *user, const struct cfg_engine_request *request)
{
    (void)user; /* a copy has none: nothing is written to it */
    (void)request;
}

static enum atl_code load(struct cfg_copy *copy, const char *state_dir, struct atl_error *err)
{
    const struct cfg_engine_options options = {.state_dir = state_dir, .name = NAME, .relaxed = true};
    const struct cfg_engine_sink sink = {
        .user = copy, .revision = load_revision, .file = load_file, .request = load_request};
    enum atl_code code = cfg_engine_sqlite.open(&options, &copy->engine, err);
    if (code != ATL_OK)
        return code;
    code = cfg_engine_sqlite.load(copy->engine, &sink, err);
    if (code != ATL_OK) {
        cfg_engine_sqlite.close(copy->engine);
        copy->engine = NULL;
        cfg_tree_done(copy->tree);
        cfg_tree_init(copy->tree, 0);
        copy->loaded = false;
    }
    return code;
}

static void remove_files(const struct cfg_copy *copy)
{
    static const char *const ends[] = {"", "-wal", "-journal", "-shm"};
    for (size_t i = 0; i < ATL_COUNT(ends); i++) {
        char *path ATL_FREE_AT_EXIT = atl_format("%s%s", copy->path, ends[i]);
        (void)unlink(path); /* not all are there; opening tells what is wrong */
    }
}

static atl_ns age_of(const char *path)
{
    struct stat status;
    struct timespec now;
    if (stat(path, &status) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return ATL_MS;
    atl_ns age =
        (atl_ns)(now.tv_sec - status.st_mtim.tv_sec) * ATL_SECOND + (now.tv_nsec - status.st_mtim.tv_nsec);
    return age > ATL_MS ? age : ATL_MS;
}

enum atl_code cfg_copy_open(struct atl_loop *loop, const char *state_dir, struct cfg_tree *tree,
                            struct cfg_copy **ret_copy, atl_ns *ret_age, struct atl_error *err)
{
    struct cfg_copy *copy = atl_new0(struct cfg_copy);
    struct atl_error why = {0};
    copy->loop = loop;
    copy->tree = tree;
    copy->path = atl_format("%s/" NAME, state_dir);
    atl_ns age = age_of(copy->path); /* before opening: that may write */
    enum atl_code code = load(copy, state_dir, &why);
    if (code != ATL_OK && code != ATL_E_LIMIT) {
        atl_log(ATL_WARNING, "copy-not-read", "%s; beginning a new local copy of the tree", why.text);
        remove_files(copy);
        code = load(copy, state_dir, &why);
    }
    (void)pthread_mutex_init(&copy->mutex, NULL);
    (void)pthread_cond_init(&copy->changed, NULL);
    if (code == ATL_OK && pthread_create(&copy->thread, NULL, write_jobs, copy) != 0)
        code = atl_fail(&why, ATL_E_LIMIT, NULL, "no thread for the local copy of the tree");
    copy->running = code == ATL_OK;
    if (code != ATL_OK) {
        if (err != NULL)
            *err = why;
        cfg_copy_close(&copy);
        return code;
    }
    *ret_age = copy->loaded ? age : 0;
    *ret_copy = copy;
    return ATL_OK;
}

void cfg_copy_close(struct cfg_copy **pointer)
{
    struct cfg_copy *copy = *pointer;
    *pointer = NULL;
    if (copy == NULL)
        return;
    if (copy->running) {
        (void)pthread_mutex_lock(&copy->mutex);
        copy->ending = true;
        (void)pthread_cond_broadcast(&copy->changed);
        (void)pthread_mutex_unlock(&copy->mutex);
        (void)pthread_join(copy->thread, NULL);
    }
    if (copy->done != NULL)
        (void)end_job(copy, copy->done); /* what failed is in the last batch */
    if (copy->engine != NULL && copy->dirty_count > 0) {
        struct job *job = make_job(copy);
        job->code = cfg_engine_sqlite.commit(copy->engine, &job->commit, &job->error);
        (void)end_job(copy, job); /* older then, and logged */
    }
    drop_dirty(copy);
    free(copy->dirty);
    atl_timer_free(copy->timer);
    if (copy->engine != NULL)
        cfg_engine_sqlite.close(copy->engine);
    (void)pthread_cond_destroy(&copy->changed);
    (void)pthread_mutex_destroy(&copy->mutex);
    free(copy->path);
    free(copy);
}
