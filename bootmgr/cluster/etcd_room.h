/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* etcd that has reached its quota raises an alarm and takes nothing more, from any member, also once there is room again. */
#pragma once

#include "base/error.h"

/* Where the etcd of the controller with this directory has raised it: what was is dropped, its file made small, and the
 * alarm taken back. 1: so; 0: there was none. Waits. */
int etcd_make_room(int home, struct error *e);
