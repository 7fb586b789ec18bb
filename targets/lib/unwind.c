/* What std names of the unwinder (its build script always asks for -lunwind on static musl). The agent is built with
   panic=abort, so nothing is ever unwound: a backtrace is empty, and a panic is its message and its place. */
typedef unsigned long word;

int _Unwind_Backtrace(void *each, void *argument) { return 5; /* _URC_END_OF_STACK */ }
word _Unwind_GetIP(void *context) { return 0; }
word _Unwind_GetIPInfo(void *context, int *before) { if (before) *before = 0; return 0; }
word _Unwind_GetCFA(void *context) { return 0; }
word _Unwind_GetRegionStart(void *context) { return 0; }
void *_Unwind_GetLanguageSpecificData(void *context) { return 0; }
void *_Unwind_FindEnclosingFunction(void *pc) { return 0; }
int _Unwind_VRS_Get(void *context, int kind, unsigned number, int form, void *value) {
    if (value) *(unsigned *)value = 0;
    return 0;
}
int _Unwind_VRS_Set(void *context, int kind, unsigned number, int form, void *value) { return 0; }
