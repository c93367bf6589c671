// SPDX-License-Identifier: GPL-2.0
/*
 * Reads one octet behind an allocation, for which KASAN must complain: a debug
 * kernel that is silent about this proves nothing by being silent.
 *
 * Copyright (c) 2026 The turbotap authors.
 */
#include <linux/module.h>
#include <linux/slab.h>

static int __init kasan_alive_init(void)
{
	size_t size = 64;
	u8 *p = kmalloc(size, GFP_KERNEL);

	if (!p)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(size);
	pr_info("kasan_alive: read %u\n", READ_ONCE(p[size]));
	kfree(p);
	return 0;
}

static void __exit kasan_alive_exit(void)
{
}

module_init(kasan_alive_init);
module_exit(kasan_alive_exit);

MODULE_AUTHOR("The turbotap authors");
MODULE_DESCRIPTION("Shows that KASAN is awake");
MODULE_LICENSE("GPL");
