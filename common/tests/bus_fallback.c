/* Stands in for the codec in tests of the bus while nothing else is linked that has it. */
#include "pure/codec.h"

static void *take(void *data, size_t size)
{
    return atl_arena_alloc(data, size);
}

static void keep(void *data, void *memory)
{
    (void)data;
    (void)memory;
}

__attribute__((weak)) ProtobufCAllocator atl_arena_allocator(struct atl_arena *arena)
{
    return (ProtobufCAllocator){.alloc = take, .free = keep, .allocator_data = arena};
}

__attribute__((weak)) ProtobufCMessage *atl_unpack(const struct atl_message *table, const void *bytes,
                                                   size_t size, struct atl_arena *arena)
{
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    return protobuf_c_message_unpack(table->descriptor, &allocator, size, bytes);
}

__attribute__((weak)) enum atl_code atl_validate(const struct atl_message *table,
                                                 const ProtobufCMessage *message, struct atl_errors *errors)
{
    (void)table;
    (void)message;
    (void)errors;
    return ATL_OK;
}
