/* Heads of images from outside: no byte is read past the end, sizes stay within the limit. */
#include "core/image.h"
#include "core/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (enum sto_format format = 0; format < STO_FORMATS; format++) {
        struct sto_image image;
        if (sto_image_read(format, data, size, &image, NULL) == ATL_OK)
            atl_assert(image.size_bytes <= STO_SIZE_MAX);
    }
    return 0;
}
