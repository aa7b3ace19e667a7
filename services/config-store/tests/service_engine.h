/* Which engine the service of a test keeps its tree in: the same tests are linked with each. */
#ifndef CFG_SERVICE_ENGINE_H
#define CFG_SERVICE_ENGINE_H

/* ret_options: up to four, for cfg_fixture.engine; borrowed until the close. */
void service_engine_open(const char *ret_options[5]);
/* What it leaves in the folder of the fixture is for its owner alone. */
void service_engine_check(const char *dir);
void service_engine_close(void);

#endif
