/* Opens with a directory for a root, and behind a link of it. */
#include "tracee.h"

int main(void)
{
	int dir = must(open("d", O_PATH | O_DIRECTORY));
	struct open_how how = { .flags = O_RDWR | O_CREAT, .mode = 0600, .resolve = RESOLVE_IN_ROOT };
	must(syscall(SYS_openat2, dir, "/etc/passwd", &how, sizeof how));
	must(syscall(SYS_openat2, dir, "../../file", &how, sizeof how));
	must(syscall(SYS_openat2, dir, "etc/../../other", &how, sizeof how));
	how.resolve = RESOLVE_BENEATH;
	fails(syscall(SYS_openat2, dir, "../file", &how, sizeof how), EXDEV);
	return 0;
}
