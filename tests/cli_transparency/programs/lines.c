/* Says its process id and every line that it is given; SIGTERM ends it with 9 at once. A shell can't stand for it: a signal that
   comes when it has looked for signals and not yet called read(2) waits there for the next line. */
#include "program.h"

static void end(int signal)
{
	(void)signal;
	_exit(9);
}

int main(void)
{
	char line[64];
	signal(SIGTERM, end);
	say("%d\n", getpid());
	while (fgets(line, sizeof line, stdin))
		say("got %s", line);
	return 0;
}
