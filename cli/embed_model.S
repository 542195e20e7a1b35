/*
 * The embedded models: whatever default.pith and fast.pith the assembler finds first (the
 * Makefile gives the folder); an empty one means none.  SPDX-License-Identifier: Apache-2.0
 */
	.section .rodata
	.balign 64
	.globl pith_default_model_start
	.globl pith_default_model_end
pith_default_model_start:
	.incbin "default.pith"
pith_default_model_end:
	.byte 0
	.balign 64
	.globl pith_fast_model_start
	.globl pith_fast_model_end
pith_fast_model_start:
	.incbin "fast.pith"
pith_fast_model_end:
	.byte 0
	.section .note.GNU-stack,"",%progbits
