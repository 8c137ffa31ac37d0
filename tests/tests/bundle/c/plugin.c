const char *name(void) { return "a plugin"; }
