/* Assertions and the aborting heap. */
#include "pure/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((weak)) ATL_NORETURN void atl_assert_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "<2>assertion failed: %s at %s:%d\n", condition, file, line);
    abort();
}

static void *checked(void *memory)
{
    if (memory == NULL)
        atl_assert_failed("memory is left", __FILE__, __LINE__);
    return memory;
}

void *atl_alloc0(size_t size)
{
    return checked(calloc(1, size > 0 ? size : 1));
}

void *atl_realloc(void *memory, size_t size)
{
    return checked(realloc(memory, size > 0 ? size : 1));
}

char *atl_strdup(const char *text)
{
    return checked(strdup(text));
}

char *atl_strndup(const char *text, size_t length)
{
    return checked(strndup(text, length));
}

char *atl_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int length = vasprintf(&text, format, args);
    va_end(args);
    atl_assert(length >= 0);
    return text;
}

void atl_free_ptr(void *pointer_to_pointer)
{
    void **pointer = pointer_to_pointer;
    free(*pointer);
    *pointer = NULL;
}

bool atl_copy(char *to, size_t size, const char *text)
{
    atl_assert(size > 0);
    size_t length = strnlen(text, size);
    bool fits = length < size;
    if (!fits)
        length = size - 1;
    memcpy(to, text, length);
    to[length] = '\0';
    return fits;
}

bool atl_equal_secret(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a;
    const unsigned char *right = b;
    unsigned char differs = 0;
    for (size_t i = 0; i < size; i++)
        differs |= (unsigned char)(left[i] ^ right[i]);
    return differs == 0;
}
