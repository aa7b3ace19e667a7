/* atoll-storage-agent: storages of a node and the volumes on them. */
#include "main.h"

#include "sto.h"

int main(int argc, char **argv)
{
    return atl_program_main(&(const struct atl_program_spec){.name = "storage-agent",
                                                             .summary = "storages of a node",
                                                             .tasks = sto_task_types,
                                                             .task_count = sto_task_type_count,
                                                             .start = sto_start,
                                                             .stop = sto_stop},
                            argc, argv);
}
