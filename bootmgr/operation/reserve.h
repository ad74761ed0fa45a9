/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Room on the data partition for one way back, held while there is one: a version that fills it must be left all the same.
 * Held by fallocate(2): no content that anybody reads, so it needs no order among the other writes. A filesystem that cannot
 * is no reason to stop: what needs the room checks again. */
#pragma once

#include "operation/machine.h"

/* Holds it, but never more than half of what is free: services live on that. `leave` bytes are not: they are about to be
 * written. What is held already stays. */
void reserve_hold(struct machine *m, uint64_t leave);

/* Bytes that are held: as good as free to who releases them first. */
uint64_t reserve_held(const struct machine *m);

/* Holds it or releases it, by whether there is something to go back to. Where some is held it is not looked how much is
 * needed by now, which takes a walk over the configuration while the boot waits. */
void reserve_keep(struct machine *m);

/* The same, and as much as is needed by now: the configuration grows. Once the system is up, at every boot. */
void reserve_renew(struct machine *m);

/* For the steps of an operation: when it begins. */
void reserve_release_record(struct machine *m);

/* For the seal and what is restored: when services have stopped. All of it. */
void reserve_release(struct machine *m);

/* At boot, before anything is written: all of it is released, unless the configuration is the booted slot's already. What
 * the loader or the initramfs have gone back to by themselves came by no shutdown that could release it. Where a new version
 * takes over what was sealed it is held: a migration hook that fills the partition must leave room for what comes back. */
void reserve_at_boot(struct machine *m);
