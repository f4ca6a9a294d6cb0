/* Makes and removes names. */
#include "tracee.h"

int main(void)
{
	must(syscall(SYS_mkdir, "d", 0755));
	int d = must(open("d", O_PATH | O_DIRECTORY));
	must(syscall(SYS_mkdirat, d, "e/", 0700));
	fails(syscall(SYS_mkdir, "d", 0700), EEXIST);
	must(syscall(SYS_mknod, "fifo", S_IFIFO | 0600, 0));
	must(syscall(SYS_mknodat, d, "plain", S_IFREG | 0644, 0));
	fails(syscall(SYS_rmdir, "d"), ENOTEMPTY);
	must(syscall(SYS_unlink, "fifo"));
	must(syscall(SYS_unlinkat, d, "plain", 0));
	must(syscall(SYS_unlinkat, d, "e", AT_REMOVEDIR));
	must(syscall(SYS_rmdir, "d"));
	fails(syscall(SYS_unlink, "d"), ENOENT);
	return 0;
}
