/* Handlers of /access/users, tokens and passwords; the table stands in rpc_access.c. */
#ifndef CFG_RPC_USERS_H
#define CFG_RPC_USERS_H

#include "cfg.h"

atl_handler_fn cfg_handle_list_users;
atl_handler_fn cfg_handle_create_user;
atl_handler_fn cfg_handle_get_user;
atl_handler_fn cfg_handle_update_user;
atl_handler_fn cfg_handle_delete_user;
atl_handler_fn cfg_handle_list_tokens;
atl_handler_fn cfg_handle_get_token;
atl_handler_fn cfg_handle_create_token;
atl_handler_fn cfg_handle_update_token;
atl_handler_fn cfg_handle_delete_token;
atl_handler_fn cfg_handle_change_password;

/* root@pam is changed by himself alone, else whoever may modify users could become him. False: refused,
 * answered. */
bool cfg_may_touch_user(struct atl_request *request, const char *userid);

#endif
