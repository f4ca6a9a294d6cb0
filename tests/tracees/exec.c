/* Executes itself by name, by descriptor and in vain. */
#include "tracee.h"

int main(int argc, char **argv)
{
	char *env[] = { "A=1", "B=two", NULL };
	char *program = argv[0];
	if (argc == 1) {
		char *args[] = { "first", "--flag", NULL };
		fails(syscall(SYS_execve, "none", args, env), ENOENT);
		fails(syscall(SYS_execve, "sub", args, env), EACCES);
		fails(syscall(SYS_execve, NULL, args, env), EFAULT);
		must(syscall(SYS_execve, "script", (char *[]){ "script", program, NULL }, env));
	}
	if (strcmp(argv[1], "by-script") == 0) {
		int self = must(open(program, O_PATH));
		env[1] = "C=3";
		must(syscall(SYS_execveat, self, "", (char *[]){ program, "last", NULL }, env,
			     AT_EMPTY_PATH));
	}
	return 7;
}
