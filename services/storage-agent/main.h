/* The two calls main.c makes; see sto.c. */
#ifndef STO_MAIN_H
#define STO_MAIN_H

#include "io/service.h"

enum atl_code sto_start(struct atl_program *program, void **ret_self, struct atl_error *err);
void sto_stop(void *self);

#endif
