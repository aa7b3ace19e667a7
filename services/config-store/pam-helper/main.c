/*
 * Asks PAM whether a password is right: atoll-pam-helper USER, the password on stdin until its end.
 * Changes it: atoll-pam-helper --change USER, on stdin the current one, a NUL, and the new one. The current
 * one is asked for whoever calls: so this program gives nobody a password that he did not have.
 *
 * It needs the rights of root (PAM modules read /etc/shadow), config-store has none: so it is installed with
 * the setuid bit, executable for config-store's group alone. Exit code: 0 right or changed, 1 wrong, 2 usage
 * or PAM fails, 3 no rights, 4 the new one is refused by the rules of the machine.
 */
#include <security/pam_appl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIGHT = 0, WRONG = 1, FAILED = 2, NO_RIGHTS = 3, REFUSED = 4, INPUT_MAX = 512, USER_MAX = 64 };

struct passwords {
    char input[INPUT_MAX]; /* both lie in here */
    const char *current;
    const char *wanted; /* NULL: it is only checked */
    bool changing;
};

static int converse(int count, const struct pam_message **messages, struct pam_response **ret_responses,
                    void *user)
{
    const struct passwords *passwords = user;
    if (count <= 0 || count > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    struct pam_response *responses = calloc((size_t)count, sizeof *responses);
    if (responses == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++) {
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF)
            continue;
        /* Without a locale PAM speaks English: the old one is asked for as the "current" one. */
        bool old = !passwords->changing || strcasestr(messages[i]->msg, "current") != NULL;
        responses[i].resp = strdup(old ? passwords->current : passwords->wanted); /* PAM frees it */
    }
    *ret_responses = responses;
    return PAM_SUCCESS;
}

/* One text, or two with a NUL between them. */
static int read_passwords(struct passwords *passwords, bool two)
{
    size_t used = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, passwords->input + used, INPUT_MAX - 1 - used);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
        if (used == INPUT_MAX - 1)
            return -1;
    }
    passwords->input[used] = '\0';
    passwords->current = passwords->input;
    size_t length = strlen(passwords->current);
    if (!two)
        return length == used ? 0 : -1;
    if (length == used)
        return -1;
    passwords->wanted = passwords->input + length + 1;
    return passwords->wanted[0] != '\0' && length + 1 + strlen(passwords->wanted) == used ? 0 : -1;
}

static int judge_change(int rc)
{
    if (rc == PAM_SUCCESS)
        return RIGHT;
    if (rc == PAM_AUTHTOK_ERR || rc == PAM_PERM_DENIED || rc == PAM_TRY_AGAIN || rc == PAM_MAXTRIES)
        return REFUSED;
    return FAILED;
}

static int ask(const char *user, struct passwords *passwords)
{
    const struct pam_conv conversation = {.conv = converse, .appdata_ptr = passwords};
    pam_handle_t *pam = NULL;
    if (pam_start("atoll", user, &conversation, &pam) != PAM_SUCCESS)
        return FAILED;
    int rc = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (rc == PAM_SUCCESS)
        rc = pam_acct_mgmt(pam, PAM_SILENT);
    int code = rc == PAM_SUCCESS ? RIGHT : WRONG;
    if (code == RIGHT && passwords->wanted != NULL) {
        passwords->changing = true;
        rc = pam_chauthtok(pam, PAM_SILENT);
        code = judge_change(rc);
    }
    (void)pam_end(pam, rc); /* the answer stands */
    return code;
}

#ifdef __SANITIZE_ADDRESS__
/* LeakSanitizer traces its own process, which a setuid program may not: the exit code would be lost. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

int main(int argc, char **argv)
{
    static struct passwords passwords;
    bool change = argc == 3 && strcmp(argv[1], "--change") == 0;
    const char *user = argv[argc - 1];
    if ((argc != 2 && !change) || user[0] == '\0' || user[0] == '-' || strlen(user) > USER_MAX)
        return FAILED;
    if (geteuid() != 0)
        return NO_RIGHTS;
    if (clearenv() != 0 || read_passwords(&passwords, change) != 0)
        return FAILED;
    int code = ask(user, &passwords);
    explicit_bzero(&passwords, sizeof passwords);
    return code;
}
