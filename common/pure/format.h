/*
 * The named checks of parameters ("pve-node", "CIDR", "disk-size"), under the names the API gives them.
 * `X-list` is a list of X separated by comma, semicolon or blank, `X-opt` is X or nothing; both exist for
 * each X.
 */
#ifndef ATL_PURE_FORMAT_H
#define ATL_PURE_FORMAT_H

#include "pure/base.h"

/* Whether that name can be checked. */
bool atl_format_known(const char *name);

/*
 * name       one that is known; asserted
 * value      borrowed, `length` bytes
 * ret_wants  out, on false only: what was expected ("a MAC address, as BC:24:11:00:00:01"); static text
 */
bool atl_format_matches(const char *name, const char *value, size_t length, const char **ret_wants);

/* The checks that no pattern can express; for format.c. */
bool atl_format_ipv4(const char *value, size_t length);
bool atl_format_ipv6(const char *value, size_t length);
bool atl_format_ip(const char *value, size_t length);
bool atl_format_ipv4_mask(const char *value, size_t length);
bool atl_format_ip_or_ll(const char *value, size_t length);
bool atl_format_cidr(const char *value, size_t length);
bool atl_format_cidr_any(const char *value, size_t length);
bool atl_format_cidr4(const char *value, size_t length);
bool atl_format_cidr6(const char *value, size_t length);
bool atl_format_ip_or_cidr(const char *value, size_t length);
bool atl_format_dns_name(const char *value, size_t length);
bool atl_format_address(const char *value, size_t length);
bool atl_format_portal(const char *value, size_t length);
bool atl_format_ipv4_config(const char *value, size_t length);
bool atl_format_ipv6_config(const char *value, size_t length);

#endif
