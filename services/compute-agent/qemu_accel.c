/*
 * Does KVM really run guests here? On some machines /dev/kvm is there, the ioctls work, and no guest comes
 * up. So a boot probe asks QEMU itself: it boots a sector (core/probe.h) with KVM under a deadline. The
 * answer is remembered for this kernel and processor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/probe.h"
#include "io/log.h"
#include "io/process.h"
#include "qemu.h"

struct qemu_accel {
    struct cmp_qemu *qemu;
    struct atl_process *process;
    char path[4096];  /* where the answer is kept */
    char image[4096]; /* of the probe */
    char identity[512];
};

static size_t read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0 ? (size_t)got : 0;
}

static void machine_identity(char *text, size_t size)
{
    struct utsname kernel = {0};
    char info[8192];
    (void)uname(&kernel); /* cannot fail with a good pointer */
    (void)read_text("/proc/cpuinfo", info, sizeof info);
    const char *model = strstr(info, "model name");
    int length = model != NULL ? (int)strcspn(model, "\n") : 0;
    (void)snprintf(text, size, "probe %d, %s %s, %.*s", CMP_PROBE_VERSION, kernel.release, kernel.version,
                   length < 200 ? length : 200, model != NULL ? model : "");
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\n' || *at == '\t')
            *at = ' ';
}

static void settle(struct qemu_accel *probe, const char *accel, const char *why)
{
    probe->qemu->accel = accel;
    atl_log(ATL_NOTICE, "accelerator", "virtual machines run with %s (%s)", accel, why);
}

static bool remembered(struct qemu_accel *probe)
{
    char text[1024];
    if (read_text(probe->path, text, sizeof text) == 0)
        return false;
    char *line = strchr(text, '\n');
    if (line == NULL || strncmp(line + 1, probe->identity, strlen(probe->identity)) != 0)
        return false;
    *line = '\0';
    if (strcmp(text, "kvm") != 0 && strcmp(text, "tcg") != 0)
        return false;
    settle(probe, strcmp(text, "kvm") == 0 ? "kvm" : "tcg", "found out before");
    return true;
}

static void remember(const struct qemu_accel *probe, const char *accel)
{
    char text[1024];
    int length = snprintf(text, sizeof text, "%s\n%s\n", accel, probe->identity);
    int fd = open(probe->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0 || write(fd, text, (size_t)length) != length)
        atl_log(ATL_WARNING, "accelerator-not-kept", "cannot write '%s': %s; the next start probes again",
                probe->path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
}

static void probed(const struct atl_process_end *end, void *user)
{
    struct qemu_accel *probe = user;
    probe->process = NULL;
    bool works = end->output != NULL && strstr(end->output, CMP_PROBE_WORD) != NULL;
    const char *accel = works ? "kvm" : "tcg";
    (void)unlink(probe->image);
    remember(probe, accel);
    settle(probe, accel, works ? "a guest booted with KVM" : "no guest booted with KVM in time");
}

static bool write_image(const struct qemu_accel *probe)
{
    uint8_t image[CMP_PROBE_SIZE];
    cmp_probe_image(image);
    int fd = open(probe->image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool done = fd >= 0 && write(fd, image, sizeof image) == (ssize_t)sizeof image &&
                ftruncate(fd, 1 << 20) == 0; /* the firmware boots no disk of one sector */
    if (fd >= 0)
        (void)close(fd);
    return done;
}

static void give_up(struct qemu_accel *probe, const char *why)
{
    remember(probe, "tcg"); /* workers wait for the file */
    settle(probe, "tcg", why);
}

static void start_probe(struct qemu_accel *probe)
{
    char drive[4200];
    (void)snprintf(drive, sizeof drive, "file=%s,format=raw,if=ide,snapshot=on", probe->image);
    const char *const argv[] = {"/usr/bin/qemu-system-x86_64",
                                "-accel",
                                "kvm",
                                "-machine",
                                "q35",
                                "-cpu",
                                "host",
                                "-m",
                                "32",
                                "-nodefaults",
                                "-display",
                                "none",
                                "-serial",
                                "stdio",
                                "-device",
                                "isa-debug-exit,iobase=0xf4,iosize=0x04",
                                "-drive",
                                drive,
                                "-no-reboot",
                                NULL};
    const struct atl_process_options options = {
        .argv = argv, .capture = 65536, .timeout = CMP_PROBE_S * ATL_SECOND};
    struct atl_error error = {0};
    if (!write_image(probe) ||
        atl_process_start(probe->qemu->cmp->loop, &options, probed, probe, &probe->process, &error) != ATL_OK)
        give_up(probe, error.text[0] != '\0' ? error.text : "the probe could not be started");
}

void qemu_accel_open(struct cmp_qemu *qemu)
{
    const struct cmp_options *options = &qemu->cmp->options;
    struct qemu_accel *probe = atl_new0(struct qemu_accel);
    qemu->probe = probe;
    probe->qemu = qemu;
    (void)snprintf(probe->path, sizeof probe->path, "%.3900s/compute-agent", options->state_dir);
    (void)mkdir(probe->path, 0750); /* it may be there */
    (void)snprintf(probe->path, sizeof probe->path, "%.3900s/compute-agent/accelerator", options->state_dir);
    (void)snprintf(probe->image, sizeof probe->image, "%.3900s/compute-agent/probe.raw", options->state_dir);
    machine_identity(probe->identity, sizeof probe->identity);
    if (strcmp(options->accel, "kvm") == 0)
        settle(probe, "kvm", "as configured");
    else if (strcmp(options->accel, "auto") != 0 || strcmp(options->driver, "fake") == 0)
        settle(probe, "tcg", "as configured");
    else if (access("/dev/kvm", R_OK | W_OK) != 0)
        settle(probe, "tcg", "there is no /dev/kvm");
    else if (!remembered(probe))
        start_probe(probe);
}

void qemu_accel_close(struct cmp_qemu *qemu)
{
    if (qemu->probe == NULL)
        return;
    atl_process_free(qemu->probe->process);
    free(qemu->probe);
    qemu->probe = NULL;
}
