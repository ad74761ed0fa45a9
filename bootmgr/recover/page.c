/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/page.h"

#include "base/buf.h"

static void add(struct page *page, enum choice_kind kind, int slot)
{
        page->choices[page->n++] = (struct choice){ kind, slot };
}

static void find_choices(const struct page_input *in, struct page *page)
{
        add(page, CHOICE_AGAIN, SLOT_NONE);
        for (int i = 0; i < in->set->n_slots && in->can_switch; i++)
                if (boot_can_try(in->set, i))
                        add(page, CHOICE_TRY, i);
        if (in->rescue)
                add(page, CHOICE_RESCUE, SLOT_NONE);
        add(page, CHOICE_POWER_OFF, SLOT_NONE);
}

static const char *headline(const struct page_input *in)
{
        if (in->stuck)
                return "the slot that boots cannot be used, and no other can be switched to: ";
        if (in->goes_on)
                return "the slot that boots has used up its tries, and no other can be booted";
        if (slot_set_selectable(in->set) > (int)slot_is_selectable(&in->set->slots[in->slot]))
                return "the bootloader starts a slot that cannot be used, whatever it is told";
        return "no slot can be booted";
}

static void print_slot(struct buf *b, int i, const struct slot *slot)
{
        buf_printf(b, "  slot %c: ", slot_name(i));
        if (*slot->version)
                buf_printf(b, "version %s, ", slot->version);
        buf_printf(b, "%s%s%s\n", slot_state_to_string(slot->state), slot->reason ? ": " : "",
                   slot_reason_to_string(slot->reason));
}

static void print_choice(struct buf *b, const struct page_input *in, size_t number, const struct choice *c)
{
        buf_printf(b, "  %zu  ", number);
        switch (c->kind) {
        case CHOICE_AGAIN:
                buf_puts(b, in->goes_on ? "boot it now\n" : "start the machine again now\n");
                break;
        case CHOICE_TRY:
                buf_printf(b, "try slot %c: it gets one boot\n", slot_name(c->slot));
                break;
        case CHOICE_RESCUE:
                buf_puts(b, "start the rescue system: it installs a version from a USB stick or over the network\n");
                break;
        case CHOICE_POWER_OFF:
                buf_puts(b, "power off\n");
                break;
        }
}

void page_make(const struct page_input *in, struct page *ret)
{
        struct page page = {};
        struct buf b = {};

        find_choices(in, &page);
        buf_printf(&b, "bootmgr: %s%s\n\n", headline(in), in->stuck ?: "");
        for (int i = 0; i < in->set->n_slots; i++)
                print_slot(&b, i, &in->set->slots[i]);
        buf_puts(&b, "\nPress a number:\n");
        for (size_t i = 0; i < page.n; i++)
                print_choice(&b, in, i + 1, &page.choices[i]);
        if (in->goes_on && in->stuck)
                buf_printf(&b, "\nIt boots all the same in %u seconds.\n", in->seconds);
        else if (in->goes_on)
                buf_printf(&b,
                           "\nIt boots all the same in %u seconds; 'bootmgr upgrade system' writes the other slot anew.\n",
                           in->seconds);
        else
                buf_printf(&b,
                           "\nThe machine tries again in %u seconds. Any other key: that time begins anew. "
                           "After four times as long it ends whatever is pressed.\n",
                           in->seconds);
        page.text = buf_take(&b);
        *ret = page;
}

void page_done(struct page *page)
{
        free(page->text);
        *page = (struct page){};
}
