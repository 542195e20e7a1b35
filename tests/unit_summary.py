# unittest with the suite's one-line summary: "N passed, N failed, N skipped".
#
# SPDX-License-Identifier: Apache-2.0

import sys
import unittest


def main():
	"""Run the tests of __main__; exit 1 when one failed."""
	program = unittest.main(module="__main__", exit=False, verbosity=1)
	result = program.result
	failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
	for test, reason in result.skipped:
		print(f"skip: {test.id().replace('__main__.', '')}: {reason}")
	print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")
	sys.exit(1 if failed else 0)
