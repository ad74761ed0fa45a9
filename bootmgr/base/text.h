/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names and contents of files are bytes; what people and JSON see is UTF-8. */
#pragma once

#include "base/util.h"

/* Valid UTF-8 without control characters other than line ends, tabs and form feeds. */
bool text_is_printable(const char *text, size_t size);
/* Every byte that is not printable UTF-8, and the backslash, as \xNN: no two texts become the same. NULL: no memory. */
char *text_escape(const char *text);
/* As snprintf(), but what does not fit is cut between characters: it stays UTF-8. */
void text_format(char *text, size_t size, const char *fmt, ...) _printf_(3, 4);

/* Sizes for people: "12 KiB", "1.5 GiB". */
#define SIZE_TEXT 24
void format_size(uint64_t bytes, char text[static SIZE_TEXT]);
