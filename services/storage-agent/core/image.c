/* Heads of qcow2 and VMDK files; see image.h. */
#include "core/image.h"

#include <string.h>

#include "core/plan.h"

static uint32_t be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t be64(const uint8_t *at)
{
    return (uint64_t)be32(at) << 32 | be32(at + 4);
}

static uint64_t le64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static enum atl_code check_size(uint64_t size_bytes, struct atl_error *err)
{
    if (size_bytes == 0 || size_bytes > STO_SIZE_MAX)
        return atl_fail(err, ATL_E_INVALID, NULL, "the image says it has %" PRIu64 " bytes, which cannot be",
                        size_bytes);
    return ATL_OK;
}

enum { QCOW2_HEAD = 72, QCOW2_V3_HEAD = 104, QCOW2_DATA_FILE = 1 << 2 };

static enum atl_code read_qcow2(const uint8_t *head, size_t size, struct sto_image *ret_image,
                                struct atl_error *err)
{
    if (size < QCOW2_HEAD || memcmp(head, "QFI\xfb", 4) != 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "the file is no qcow2 image");
    uint32_t version = be32(head + 4);
    if (version != 2 && version != 3)
        return atl_fail(err, ATL_E_INVALID, NULL, "the qcow2 image has version %u, only 2 and 3 are known",
                        version);
    if (be32(head + 32) != 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "the qcow2 image is encrypted");
    if (version == 3 && size < QCOW2_V3_HEAD)
        return atl_fail(err, ATL_E_INVALID, NULL, "the qcow2 image is cut off");
    struct sto_image image = {.size_bytes = be64(head + 24), .foreign = be64(head + 8) != 0};
    if (version == 3 && (be64(head + 72) & QCOW2_DATA_FILE) != 0)
        image.foreign = true;
    enum atl_code code = check_size(image.size_bytes, err);
    if (code == ATL_OK)
        *ret_image = image;
    return code;
}

/* Only the one-file kinds; a text descriptor names other files by its nature. */
static enum atl_code read_vmdk(const uint8_t *head, size_t size, struct sto_image *ret_image,
                               struct atl_error *err)
{
    if (size < 512 || memcmp(head, "KDMV", 4) != 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "the file is no VMDK image in one file");
    uint64_t sectors = le64(head + 12);
    if (sectors > STO_SIZE_MAX / 512)
        return atl_fail(err, ATL_E_INVALID, NULL, "the VMDK image is too large");
    uint64_t descriptor_at = le64(head + 28);
    uint64_t descriptor_sectors = le64(head + 36);
    if (descriptor_at > 64 || descriptor_sectors > 64 || (descriptor_at + descriptor_sectors) * 512 > size)
        return atl_fail(err, ATL_E_INVALID, NULL, "the VMDK image has its descriptor at an unusual place");
    const uint8_t *descriptor = head + descriptor_at * 512;
    size_t length = descriptor_sectors * 512;
    struct sto_image image = {.size_bytes = sectors * 512};
    image.foreign = memmem(descriptor, length, "parentFileNameHint", 18) != NULL;
    enum atl_code code = check_size(image.size_bytes, err);
    if (code == ATL_OK)
        *ret_image = image;
    return code;
}

enum atl_code sto_image_read(enum sto_format format, const void *head, size_t size,
                             struct sto_image *ret_image, struct atl_error *err)
{
    atl_assert(head != NULL || size == 0);
    switch (format) {
    case STO_RAW:
    case STO_ISO_IMAGE:
        *ret_image = (struct sto_image){0};
        return ATL_OK;
    case STO_QCOW2:
        return read_qcow2(head, size, ret_image, err);
    case STO_VMDK:
        return read_vmdk(head, size, ret_image, err);
    default:
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no format of a disk image",
                        sto_format_to_text(format));
    }
}
