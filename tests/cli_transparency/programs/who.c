/* Says who it is. */
#include "program.h"

int main(void)
{
	say("user %s, effective %s\n", getuid() == 0 ? "root" : "other", geteuid() == 0 ? "root" : "other");
	return 0;
}
