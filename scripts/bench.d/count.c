/*
 * A plugin for QEMU that counts what a program executes, in all its threads: instructions, and on arm64 what orders
 * memory. `out` names the file that gets the numbers when the program ends, as NAME NUMBER lines.
 *
 * A block that a signal interrupts is counted as a whole. What a forked child counts begins with what its parent had.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { INSTRUCTIONS, DMB_FULL, DMB_LOAD, DMB_STORE, ACQUIRE_RELEASE, ATOMIC, KINDS };
static const char *const names[KINDS] = {
    "instructions", "dmb-ish", "dmb-ishld", "dmb-ishst", "acquire-release", "atomic",
};
static struct qemu_plugin_scoreboard *counts;
static qemu_plugin_u64 count[KINDS];
static char *out;
static int arm64;

/* What else than an instruction this is. */
static int kind(uint32_t insn)
{
    if ((insn & 0xfffff0ff) == 0xd50330bf) {
        switch (insn >> 8 & 3) {
        case 1: return DMB_LOAD;
        case 2: return DMB_STORE;
        default: return DMB_FULL;
        }
    }
    /* CAS; then LDADD, SWP and their like, of which LDAPR is one by its encoding alone. */
    if ((insn & 0x3fa07c00) == 0x08a07c00) return ATOMIC;
    if ((insn & 0x3ffffc00) == 0x38bfc000) return ACQUIRE_RELEASE;
    if ((insn & 0x3f200c00) == 0x38200000) return ATOMIC;
    /* LDAR, STLR; LDXR, STXR and their like. */
    if ((insn & 0x3f808000) == 0x08808000) return ACQUIRE_RELEASE;
    if ((insn & 0x3f800000) == 0x08000000) return ATOMIC;
    return INSTRUCTIONS;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t length = qemu_plugin_tb_n_insns(tb);
    unsigned found[KINDS] = { [INSTRUCTIONS] = length };

    (void)id;
    for (size_t i = 0; arm64 && i < length; i++) {
        uint32_t insn = 0;
        qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i), &insn, sizeof insn);
        int it = kind(insn);
        if (it != INSTRUCTIONS) found[it]++;
    }
    for (int i = 0; i < KINDS; i++) {
        if (!found[i]) continue;
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, count[i], found[i]);
    }
}

static void ended(qemu_plugin_id_t id, void *unused)
{
    FILE *to = fopen(out, "w");

    (void)id, (void)unused;
    if (!to) {
        perror(out);
        return;
    }
    for (int i = 0; i < KINDS; i++) fprintf(to, "%s %" PRIu64 "\n", names[i], qemu_plugin_u64_sum(count[i]));
    fclose(to);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) out = strdup(argv[i] + 4);
    }
    if (!out) {
        fprintf(stderr, "count: out=FILE is missing\n");
        return -1;
    }
    arm64 = !strcmp(info->target_name, "aarch64");
    counts = qemu_plugin_scoreboard_new(KINDS * sizeof(uint64_t));
    for (int i = 0; i < KINDS; i++) count[i] = (qemu_plugin_u64) { counts, i * sizeof(uint64_t) };
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
