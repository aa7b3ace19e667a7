/*
 * Asks PAM whether a password is right: atoll-pam-helper USER, the password on stdin until its end.
 *
 * It needs the rights of root (PAM modules read /etc/shadow), config-store has none: so it is installed with
 * the setuid bit, executable for config-store's group alone. Exit code: 0 right, 1 wrong, 2 usage or PAM
 * fails, 3 no rights.
 */
#include <security/pam_appl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIGHT = 0, WRONG = 1, FAILED = 2, NO_RIGHTS = 3, PASSWORD_MAX = 512, USER_MAX = 64 };

static int converse(int count, const struct pam_message **messages, struct pam_response **ret_responses,
                    void *user)
{
    if (count <= 0 || count > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    struct pam_response *responses = calloc((size_t)count, sizeof *responses);
    if (responses == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
            responses[i].resp = strdup(user); /* PAM frees it */
    *ret_responses = responses;
    return PAM_SUCCESS;
}

static int read_password(char *password)
{
    size_t used = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, password + used, PASSWORD_MAX - 1 - used);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
        if (used == PASSWORD_MAX - 1)
            return -1;
    }
    password[used] = '\0';
    return strlen(password) == used ? 0 : -1;
}

static int check(const char *user, char *password)
{
    const struct pam_conv conversation = {.conv = converse, .appdata_ptr = password};
    pam_handle_t *pam = NULL;
    if (pam_start("atoll", user, &conversation, &pam) != PAM_SUCCESS)
        return FAILED;
    int rc = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (rc == PAM_SUCCESS)
        rc = pam_acct_mgmt(pam, PAM_SILENT);
    (void)pam_end(pam, rc); /* the answer stands */
    return rc == PAM_SUCCESS ? RIGHT : WRONG;
}

int main(int argc, char **argv)
{
    static char password[PASSWORD_MAX];
    if (argc != 2 || argv[1][0] == '\0' || strlen(argv[1]) > USER_MAX)
        return FAILED;
    if (geteuid() != 0)
        return NO_RIGHTS;
    if (clearenv() != 0 || read_password(password) != 0)
        return FAILED;
    int code = check(argv[1], password);
    explicit_bzero(password, sizeof password);
    return code;
}
