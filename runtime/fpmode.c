/*
 * The floating-point control register, per target.  The one file of the runtime proper that asks
 * for the target: the register has no portable name, and fenv.h cannot clear flush-to-zero.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fpmode.h"

#include <float.h>

#if FLT_EVAL_METHOD != 0
#error "float expressions must be evaluated in float (no x87): spec/numerics.md"
#endif

#if defined(__SSE2__)

#include <xmmintrin.h>

/* MXCSR: bits 0-5 are sticky status, 6 DAZ, 7-12 exception masks, 13-14 rounding, 15 FTZ. */
#define MXCSR_STANDARD 0x1f80u
#define MXCSR_CONTROL 0xffc0u

uint64_t pith_fpmode_enter(void)
{
	unsigned old = _mm_getcsr();
	if ((old & MXCSR_CONTROL) != MXCSR_STANDARD)
		_mm_setcsr(MXCSR_STANDARD);
	return old;
}

void pith_fpmode_restore(uint64_t old)
{
	if ((old & MXCSR_CONTROL) != MXCSR_STANDARD)
		_mm_setcsr((unsigned)old);
}

#elif defined(__aarch64__)

/* FPCR 0: round to nearest, no flush to zero, no default NaN, no traps. */
uint64_t pith_fpmode_enter(void)
{
	uint64_t old;
	__asm__ volatile("mrs %0, fpcr" : "=r"(old));
	if (old != 0)
		__asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
	return old;
}

void pith_fpmode_restore(uint64_t old)
{
	if (old != 0)
		__asm__ volatile("msr fpcr, %0" : : "r"(old) : "memory");
}

#else

#include <fenv.h>

uint64_t pith_fpmode_enter(void)
{
	int old = fegetround();
	if (old != FE_TONEAREST)
		fesetround(FE_TONEAREST);
	return (uint64_t)old;
}

void pith_fpmode_restore(uint64_t old)
{
	if ((int)old != FE_TONEAREST)
		fesetround((int)old);
}

#endif
