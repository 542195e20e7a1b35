/*
 * What the processor and the operating system offer.  A feature counts only when the
 * system saves its registers (x86: xgetbv) or names it (aarch64).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Register sets the operating system saves (XCR0): bits of the Intel and AMD manuals. */
enum { XCR0_AVX = 0x6u, XCR0_AVX512 = 0xe6u };

static unsigned saved_registers(void)
{
	unsigned low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

unsigned pith_cpu_features(void)
{
	unsigned a, b, c, d, b7, c7, d7;
	/* leaf 1 ecx: fma 12, popcnt 23, osxsave 27, avx 28, f16c 29 */
	const unsigned leaf1 = 1u << 12 | 1u << 23 | 1u << 27 | 1u << 28 | 1u << 29;
	/* leaf 7 ebx: avx2 5, bmi2 8; avx512 f 16, dq 17, bw 30, vl 31; ecx: gfni 8, vnni 11 */
	const unsigned bmi2_avx2 = 1u << 5 | 1u << 8;
	const unsigned leaf7 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
		return 0;
	if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || (b7 & bmi2_avx2) != bmi2_avx2)
		return 0;
	unsigned saved = saved_registers();
	if ((saved & XCR0_AVX) != XCR0_AVX)
		return 0;
	if ((saved & XCR0_AVX512) != XCR0_AVX512 || (b7 & leaf7) != leaf7 || (c7 & 1u << 11) == 0)
		return PITH_CPU_AVX2;
	return PITH_CPU_AVX2 | PITH_CPU_AVX512 | (c7 & 1u << 8 ? PITH_CPU_GFNI : 0u);
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

unsigned pith_cpu_features(void)
{
	return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? PITH_CPU_NEON : 0;
}
#else
/* No portable question: what the compiler may assume of every machine of the target. */
unsigned pith_cpu_features(void)
{
#if defined(__ARM_FEATURE_DOTPROD)
	return PITH_CPU_NEON;
#else
	return 0;
#endif
}
#endif
#else
unsigned pith_cpu_features(void) { return 0; }
#endif
