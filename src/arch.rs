//! Every guest architecture: one row each, from which magic, mask and probe program follow.
//!
//! Source of the identities: the ELF specification's `e_machine` numbers and QEMU's
//! `scripts/qemu-binfmt-conf.sh`. This module knows nothing of the host.

use std::fmt;
use std::sync::LazyLock;

/// ELF word size, `EI_CLASS` in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Elf32 = 1,
    Elf64 = 2,
}

/// ELF byte order, `EI_DATA` in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Data {
    Little = 1,
    Big = 2,
}

use Class::{Elf32, Elf64};
use Data::{Big, Little};

/// Offset of `e_flags` in a 32-bit ELF header.
const E_FLAGS_32: usize = 36;

/// One guest architecture, as the kernel, QEMU and the OCI see it.
#[derive(Debug)]
pub struct Arch {
    /// OCI (Go) architecture, `arm64`; QEMU's name where the OCI has none.
    pub oci: &'static str,
    /// QEMU target, `aarch64`: the emulator is `qemu-aarch64`, and so is the entry.
    pub target: &'static str,
    /// Word size of its programs.
    pub class: Class,
    /// Byte order of its programs.
    pub data: Data,
    /// `e_machine` of its programs.
    pub machine: u16,
    /// `e_flags` of the probe: the ABI, where the emulator or kernel asks for it.
    e_flags: u32,
    /// Bit of `e_flags` that must be matched, and its value: tells MIPS o32 from n32.
    abi_bit: Option<(u32, bool)>,
    /// Mask bytes that differ from the rule, as (offset, byte).
    mask_exceptions: &'static [(usize, u8)],
    /// Names from Debian, `uname -m` and Go that are neither `oci` nor `target`.
    pub aliases: &'static [&'static str],
    /// Machine code of `exit(0)`.
    exit: &'static [u8],
    /// Whether people build images for it; the others are told of only where there is news.
    pub common: bool,
}

/// The required columns of a row.
const fn arch(
    oci: &'static str,
    target: &'static str,
    (class, data, machine): (Class, Data, u16),
    aliases: &'static [&'static str],
    exit: &'static [u8],
) -> Arch {
    let (abi_bit, mask_exceptions) = (None, &[] as &[_]);
    Arch {
        oci,
        target,
        class,
        data,
        machine,
        e_flags: 0,
        abi_bit,
        mask_exceptions,
        aliases,
        exit,
        common: false,
    }
}

impl Arch {
    const fn e_flags(self, e_flags: u32) -> Self {
        Self { e_flags, ..self }
    }
    const fn abi_bit(self, bit: u32, set: bool) -> Self {
        Self { abi_bit: Some((bit, set)), ..self }
    }
    const fn common(self) -> Self {
        Self { common: true, ..self }
    }
    const fn masked(self, mask_exceptions: &'static [(usize, u8)]) -> Self {
        Self { mask_exceptions, ..self }
    }
}

/// EI_DATA and EI_VERSION lose their lowest bit: so QEMU and the field's installers register x86.
const X86_MASK: &[(usize, u8)] = &[(5, 0xfe), (6, 0xfe)];
/// MIPS programs carry an ABI version in byte 8.
const MIPS_MASK: &[(usize, u8)] = &[(8, 0x00)];

/// All rows, in the order in which `supported` lists them.
///
/// Each probe is `exit(0)` in the Linux system call convention of its architecture; the comment
/// beside it is the assembly.
#[rustfmt::skip]
pub const ARCHES: &[Arch] = &[
    // xor edi,edi; mov eax,60; syscall
    arch("amd64", "x86_64", (Elf64, Little, 62), &["x86-64", "x64"], b"\x31\xff\xb8\x3c\0\0\0\x0f\x05").masked(X86_MASK).common(),
    // mov x0,#0; mov x8,#93; svc #0
    arch("arm64", "aarch64", (Elf64, Little, 183), &["arm64v8"], b"\0\0\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4").common(),
    // li a0,0; li a7,93; ecall
    arch("riscv64", "riscv64", (Elf64, Little, 243), &["riscv64gc", "rv64", "rv64gc"], b"\x13\x05\0\0\x93\x08\xd0\x05\x73\0\0\0").common(),
    // li r0,1; li r3,0; sc. e_flags 2 is ELFv2: the entry point is code, not a descriptor.
    arch("ppc64", "ppc64", (Elf64, Big, 21), &["powerpc64"], b"\x38\0\0\x01\x38\x60\0\0\x44\0\0\x02").e_flags(2).common(),
    // The mask leaves the high byte of e_machine open, as every installer of the field does.
    arch("ppc64le", "ppc64le", (Elf64, Little, 21), &["ppc64el", "powerpc64le"], b"\x01\0\0\x38\0\0\x60\x38\x02\0\0\x44").e_flags(2).masked(&[(19, 0x00)]).common(),
    // lghi %r2,0; svc 1
    arch("s390x", "s390x", (Elf64, Big, 22), &[], b"\xa7\x29\0\0\x0a\x01").common(),
    // xor ebx,ebx; xor eax,eax; inc eax; int 0x80
    arch("386", "i386", (Elf32, Little, 3), &["x86", "i486", "i586", "i686", "ia32"], b"\x31\xdb\x31\xc0\x40\xcd\x80").masked(X86_MASK).common(),
    // li v0,5058; li a0,0; syscall
    arch("mips64le", "mips64el", (Elf64, Little, 8), &[], b"\xc2\x13\x02\x24\0\0\x04\x24\x0c\0\0\0").masked(MIPS_MASK).common(),
    arch("mips64", "mips64", (Elf64, Big, 8), &[], b"\x24\x02\x13\xc2\x24\x04\0\0\0\0\0\x0c").masked(MIPS_MASK).common(),
    // li.w a0,0; li.w a7,93; syscall 0. Byte 8 holds an ABI version, byte 7 an OSABI of up to 3.
    arch("loong64", "loongarch64", (Elf64, Little, 258), &["loongarch"], b"\x04\0\x15\0\x0b\x74\x81\x03\0\0\x2b\0").e_flags(0x43).masked(&[(7, 0xfc), (8, 0x00)]).common(),
    // mov r0,#0; mov r7,#1; svc #0. e_flags: EABI version 5.
    arch("arm", "arm", (Elf32, Little, 40), &["armhf", "armel", "armv5l", "armv5tel", "armv6l", "armv7l", "armv8l", "arm32", "arm32v5", "arm32v6", "arm32v7", "armv5", "armv6", "armv7", "armhfp", "armv6hl", "armv7hl", "armv7hf", "armv7a", "aarch32"], b"\0\0\xa0\xe3\x01\x70\xa0\xe3\0\0\0\xef").e_flags(0x0500_0000).common(),
    // li v0,4001; li a0,0; syscall. o32 and n32 differ only in EF_MIPS_ABI2 (0x20) of e_flags.
    arch("mipsle", "mipsel", (Elf32, Little, 8), &["mips32el", "mips32le"], b"\xa1\x0f\x02\x24\0\0\x04\x24\x0c\0\0\0").e_flags(0x1000).abi_bit(0x20, false).masked(MIPS_MASK),
    arch("mips", "mips", (Elf32, Big, 8), &["mips32"], b"\x24\x02\x0f\xa1\x24\x04\0\0\0\0\0\x0c").e_flags(0x1000).abi_bit(0x20, false).masked(MIPS_MASK),
    // li v0,6058; li a0,0; syscall
    arch("mips64p32le", "mipsn32el", (Elf32, Little, 8), &["mipsn32le"], b"\xaa\x17\x02\x24\0\0\x04\x24\x0c\0\0\0").e_flags(0x20).abi_bit(0x20, true).masked(MIPS_MASK),
    arch("mips64p32", "mipsn32", (Elf32, Big, 8), &[], b"\x24\x02\x17\xaa\x24\x04\0\0\0\0\0\x0c").e_flags(0x20).abi_bit(0x20, true).masked(MIPS_MASK),
    arch("riscv", "riscv32", (Elf32, Little, 243), &["rv32", "rv32gc"], b"\x13\x05\0\0\x93\x08\xd0\x05\x73\0\0\0"),
    arch("ppc", "ppc", (Elf32, Big, 20), &["powerpc"], b"\x38\0\0\x01\x38\x60\0\0\x44\0\0\x02"),
    arch("arm64be", "aarch64_be", (Elf64, Big, 183), &["aarch64be"], b"\0\0\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4"),
    // Instructions stay little-endian (BE8, e_flags 0x0080_0000).
    arch("armbe", "armeb", (Elf32, Big, 40), &[], b"\0\0\xa0\xe3\x01\x70\xa0\xe3\0\0\0\xef").e_flags(0x0580_0000),
    // lda v0,1(zero); lda a0,0(zero); callsys
    arch("alpha", "alpha", (Elf64, Little, 0x9026), &[], b"\x01\0\x1f\x20\0\0\x1f\x22\x83\0\0\0").masked(X86_MASK),
    // { r0 = #0 }; { r6 = #93 }; trap0(#1). e_flags: architecture version 68.
    arch("hexagon", "hexagon", (Elf32, Little, 164), &[], b"\x00\xc0\x00\x78\xa6\xcb\x00\x78\x04\xc0\x00\x54").e_flags(0x68),
    // ldi 0,r26; ble 0x100(sr2,r0); ldi 1,r20 (delay slot). The system call gate is at 0x100.
    arch("hppa", "hppa", (Elf32, Big, 15), &["parisc"], b"\x34\x1a\0\0\xe4\0\x82\0\x34\x14\0\x02"),
    // moveq #1,d0; moveq #0,d1; trap #0
    arch("m68k", "m68k", (Elf32, Big, 4), &[], b"\x70\x01\x72\0\x4e\x40").masked(&[(6, 0xfe)]),
    // addik r12,r0,1; addik r5,r0,0; brki r14,8. 0xbaab is the number from before 189 was assigned.
    arch("microblaze", "microblaze", (Elf32, Big, 0xbaab), &[], b"\x31\x80\0\x01\x30\xa0\0\0\xb9\xcc\0\x08"),
    arch("microblazeel", "microblazeel", (Elf32, Little, 0xbaab), &[], b"\x01\0\x80\x31\0\0\xa0\x30\x08\0\xcc\xb9"),
    // l.ori r11,r0,93; l.ori r3,r0,0; l.sys 1
    arch("or1k", "or1k", (Elf32, Big, 92), &["openrisc"], b"\xa9\x60\0\x5d\xa8\x60\0\0\x20\0\0\x01"),
    // mov #1,r3; mov #0,r4; trapa #17
    arch("sh4", "sh4", (Elf32, Little, 42), &[], b"\x01\xe3\0\xe4\x11\xc3"),
    arch("sh4eb", "sh4eb", (Elf32, Big, 42), &[], b"\xe3\x01\xe4\0\xc3\x11"),
    // mov 1,%g1; mov 0,%o0; ta 0x10
    arch("sparc", "sparc", (Elf32, Big, 2), &[], b"\x82\x10\x20\x01\x90\x10\x20\0\x91\xd0\x20\x10"),
    arch("sparc32plus", "sparc32plus", (Elf32, Big, 18), &[], b"\x82\x10\x20\x01\x90\x10\x20\0\x91\xd0\x20\x10").e_flags(0x100),
    // mov 1,%g1; mov 0,%o0; ta 0x6d
    arch("sparc64", "sparc64", (Elf64, Big, 43), &["sparcv9"], b"\x82\x10\x20\x01\x90\x10\x20\0\x91\xd0\x20\x6d"),
    // movi a2,118; movi a6,0; syscall
    arch("xtensa", "xtensa", (Elf32, Little, 94), &[], b"\x22\xa0\x76\x62\xa0\0\0\x50\0"),
    arch("xtensaeb", "xtensaeb", (Elf32, Big, 94), &[], b"\x22\x0a\x76\x26\x0a\0\0\x05\0"),
];

/// Rows whose platform the OCI writes with a variant; all others are `linux/<oci>`.
///
/// One qemu-arm runs armv5 to armv7; a header does not say which of them a program needs.
const VARIANTS: &[(&str, &[&str])] = &[("arm", &["linux/arm/v7", "linux/arm/v6"])];

/// The row of the machine that this very program is built for: what it runs by itself.
///
/// Rule of the whole program: an entry for it would take every program's start, the emulator's
/// own included. So a build for a machine that has no row here fails.
pub const HOST: &Arch = host();

const HOST_TARGET: &str = {
    use std::env::consts::ARCH;
    let little = cfg!(target_endian = "little");
    match ARCH.as_bytes() {
        b"x86" => "i386",
        b"powerpc" => "ppc",
        b"powerpc64" if little => "ppc64le",
        b"powerpc64" => "ppc64",
        b"mips64" if little => "mips64el",
        b"mips" if little => "mipsel",
        _ => ARCH,
    }
};

const fn host() -> &'static Arch {
    let wanted = HOST_TARGET.as_bytes();
    let mut row = 0;
    while row < ARCHES.len() {
        let target = ARCHES[row].target.as_bytes();
        let mut i = 0;
        while i < target.len() && target.len() == wanted.len() && target[i] == wanted[i] {
            i += 1;
        }
        if i == wanted.len() && i == target.len() {
            return &ARCHES[row];
        }
        row += 1;
    }
    panic!("src/arch.rs has no row for the machine that this is built for")
}

/// Which architectures a CPU may run besides its own, where its kernel lets it.
const ALSO_NATIVE: &[(&str, &str)] =
    &[("x86_64", "i386"), ("aarch64", "arm"), ("riscv64", "riscv32"), ("ppc64", "ppc")];

/// Two rows are the same row when QEMU calls them the same.
impl PartialEq for Arch {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
    }
}
impl Eq for Arch {}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.oci)
    }
}

impl Arch {
    /// Whether this machine's CPU may be able to run its programs.
    pub fn may_be_native(&self) -> bool {
        self == HOST || ALSO_NATIVE.contains(&(HOST.target, self.target))
    }

    /// The row with this QEMU target name.
    pub fn by_target(target: &str) -> Option<&'static Arch> {
        ARCHES.iter().find(|arch| arch.target == target)
    }

    /// The row a program belongs to, from the first bytes of its file (40 suffice).
    pub fn of_header(header: &[u8]) -> Option<&'static Arch> {
        ARCHES.iter().find(|arch| matches(header, &arch.magic(), &arch.mask()))
    }

    /// Platforms that its programs are known by, most common first: `linux/arm64`.
    pub fn platforms(&self) -> Vec<String> {
        match VARIANTS.iter().find(|(oci, _)| *oci == self.oci) {
            Some((_, platforms)) => platforms.iter().map(|p| (*p).to_owned()).collect(),
            None => vec![format!("linux/{}", self.oci)],
        }
    }

    /// Name of its emulator and entry without any prefix: `qemu-aarch64`.
    pub fn emulator_name(&self) -> String {
        format!("qemu-{}", self.target)
    }

    fn half(&self, value: u16) -> [u8; 2] {
        match self.data {
            Little => value.to_le_bytes(),
            Big => value.to_be_bytes(),
        }
    }

    fn word(&self, value: u32) -> [u8; 4] {
        match self.data {
            Little => value.to_le_bytes(),
            Big => value.to_be_bytes(),
        }
    }

    /// An address: 4 or 8 bytes by class.
    fn address(&self, value: u32) -> Vec<u8> {
        let low = self.word(value);
        match (self.class, self.data) {
            (Elf32, _) => low.to_vec(),
            (Elf64, Little) => [low, [0; 4]].concat(),
            (Elf64, Big) => [[0; 4], low].concat(),
        }
    }

    /// `e_ident` to `e_machine` of an executable: 20 bytes.
    fn identity(&self) -> Vec<u8> {
        let mut header = b"\x7fELF".to_vec();
        header.extend([self.class as u8, self.data as u8, 1]);
        header.resize(16, 0);
        header.extend(self.half(2)); // ET_EXEC; the mask lets ET_DYN (3) in as well
        header.extend(self.half(self.machine));
        header
    }

    /// The bytes an entry compares with the start of a file: 20, or 40 where e_flags count.
    pub fn magic(&self) -> Vec<u8> {
        let mut magic = self.identity();
        if let Some((bit, set)) = self.abi_bit {
            magic.extend(self.word(1)); // e_version
            magic.resize(E_FLAGS_32, 0); // e_entry, e_phoff, e_shoff: masked out
            magic.extend(self.word(if set { bit } else { 0 }));
        }
        magic
    }

    /// The bits of [`Arch::magic`] that count, equally long.
    ///
    /// The rule: everything but EI_OSABI (byte 7), and of e_type all but the lowest bit, so that
    /// ET_EXEC and ET_DYN both match.
    pub fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0xff; 20];
        mask[7] = 0x00;
        mask[if self.data == Little { 16 } else { 17 }] = 0xfe;
        for (offset, byte) in self.mask_exceptions {
            mask[*offset] = *byte;
        }
        if let Some((bit, _)) = self.abi_bit {
            mask.extend([0xff; 4]);
            mask.resize(E_FLAGS_32, 0);
            mask.extend(self.word(bit));
        }
        mask
    }

    /// A complete static program of this architecture that does nothing but `exit(0)`.
    pub fn probe(&self) -> Vec<u8> {
        self.program(self.exit)
    }

    /// Programs of this architecture as linkers make them, each with what people call that kind. An
    /// entry that is right takes them all, as [`Arch::mask`] does.
    pub fn kinds(&self) -> Vec<(&'static str, Vec<u8>)> {
        const OSABI: usize = 7;
        const ABI_VERSION: usize = 8;
        let kind_at = if self.data == Little { 16 } else { 17 };
        let changes: [(&str, usize, u8); 4] = [
            ("programs at fixed addresses", kind_at, 2),
            ("position-independent programs (PIE)", kind_at, 3),
            ("programs with GNU's OS ABI (3), as many static ones are", OSABI, 3),
            ("programs with an ABI version", ABI_VERSION, 1),
        ];
        let (magic, mask) = (self.magic(), self.mask());
        let changed = changes.map(|(name, at, value)| {
            let mut program = self.probe();
            program[at] = value;
            (name, program)
        });
        changed.into_iter().filter(|(_, program)| matches(program, &magic, &mask)).collect()
    }

    /// A program that waits until it is killed, so that it can be looked at; for architectures that
    /// some machine runs besides its own, or that other emulators than QEMU are for.
    pub fn waiting(&self) -> Option<Vec<u8>> {
        let code: &[u8] = match self.target {
            // mov eax,34 (pause); syscall
            "x86_64" => b"\xb8\x22\0\0\0\x0f\x05",
            // mov eax,29; int 0x80
            "i386" => b"\xb8\x1d\0\0\0\xcd\x80",
            // mov r7,#29; svc #0
            "arm" => b"\x1d\x70\xa0\xe3\0\0\0\xef",
            // li a0,0; li a1,0; li a2,0; li a3,0; li a4,0; li a7,414 (ppoll); ecall
            "riscv32" => {
                b"\x13\x05\0\0\x93\x05\0\0\x13\x06\0\0\x93\x06\0\0\x13\x07\0\0\x93\x08\xe0\x19\x73\0\0\0"
            }
            // li r0,29; sc
            "ppc" => b"\x38\0\0\x1d\x44\0\0\x02",
            _ => return None,
        };
        // What a signal makes return would run on into nothing.
        Some(self.program(&[code, self.exit].concat()))
    }

    /// A complete static program with `code` as its text: ELF header, one program header, code.
    pub fn program(&self, code: &[u8]) -> Vec<u8> {
        /// Above every `vm.mmap_min_addr`, aligned for the largest pages (64 KiB).
        const BASE: u32 = 0x10_0000;
        const ALIGN: u32 = 0x1_0000;
        let (header_size, segment_size) = if self.class == Elf64 { (64, 56) } else { (52, 32) };
        let text = header_size + segment_size;
        let size = self.address(u32::from(text) + code.len() as u32);
        let (base, align) = (self.address(BASE), self.address(ALIGN));
        let read_execute = self.word(5);

        let mut file = self.identity();
        file.extend(self.word(1)); // e_version
        file.extend(self.address(BASE + u32::from(text))); // e_entry
        file.extend(self.address(header_size.into())); // e_phoff
        file.extend(self.address(0)); // e_shoff
        file.extend(self.word(self.e_flags));
        for field in [header_size, segment_size, 1, 0, 0, 0] {
            file.extend(self.half(field)); // e_ehsize, e_phentsize, e_phnum, no sections
        }
        file.extend(self.word(1)); // PT_LOAD
        if self.class == Elf64 {
            file.extend(read_execute);
        }
        file.extend(self.address(0)); // p_offset
        file.extend([base.clone(), base, size.clone(), size].concat()); // vaddr paddr filesz memsz
        if self.class == Elf32 {
            file.extend(read_execute);
        }
        file.extend(align);
        file.extend(code);
        file
    }
}

/// Instructions that trap unless the CPU has the level, each followed by the row's `exit(0)`.
///
/// One representative of every feature group that the x86-64 psABI adds at that level; AVX and
/// AVX-512 also need the operating system's consent, which an instruction tests and CPUID's
/// feature bit does not.
pub(crate) const AMD64_LEVELS: &[(&str, &[u8])] = &[
    // popcnt eax,eax; pcmpgtq xmm0,xmm0; pshufb xmm0,xmm0
    ("v2", b"\xf3\x0f\xb8\xc0\x66\x0f\x38\x37\xc0\x66\x0f\x38\x00\xc0"),
    // vpaddd ymm0,ymm0,ymm0; andn eax,eax,eax; shlx eax,eax,eax; vfmadd231ps ymm0,ymm0,ymm0;
    // vcvtph2ps ymm0,xmm0; lea rcx,[rsp]; movbe eax,[rcx]
    (
        "v3",
        b"\xc5\xfd\xfe\xc0\xc4\xe2\x78\xf2\xc0\xc4\xe2\x79\xf7\xc0\xc4\xe2\x7d\xb8\xc0\
          \xc4\xe2\x7d\x13\xc0\x48\x8d\x0c\x24\x0f\x38\xf0\x01",
    ),
    // vpaddd zmm0,zmm0,zmm0; vpaddb zmm0,zmm0,zmm0; vpconflictd zmm0,zmm0; vandps zmm0,zmm0,zmm0;
    // vpaddd ymm16,ymm16,ymm16
    (
        "v4",
        b"\x62\xf1\x7d\x48\xfe\xc0\x62\xf1\x7d\x48\xfc\xc0\x62\xf2\x7d\x48\xc4\xc0\
          \x62\xf1\x7c\x48\x54\xc0\x62\xa1\x7d\x20\xfe\xc0",
    ),
];

impl Arch {
    /// A program that exits with 0 only where the CPU offers `level`; amd64 alone has levels.
    pub fn level_probe(&self, code: &[u8]) -> Vec<u8> {
        self.program(&[code, self.exit].concat())
    }
}

/// All architectures, each with its test program: what entries are compared with.
pub(crate) fn programs() -> &'static [(&'static Arch, Vec<u8>)] {
    static PROGRAMS: LazyLock<Vec<(&Arch, Vec<u8>)>> =
        LazyLock::new(|| ARCHES.iter().map(|arch| (arch, arch.probe())).collect());
    &PROGRAMS
}

/// What binfmt_misc does: compare the masked start of a file with a magic.
pub(crate) fn matches(header: &[u8], magic: &[u8], mask: &[u8]) -> bool {
    header.len() >= magic.len()
        && (0..magic.len()).all(|i| (header[i] ^ magic[i]) & mask.get(i).unwrap_or(&0xff) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The registrations that existing hosts carry, byte for byte.
    #[test]
    fn magic_and_mask_are_the_fields_own() {
        let f = "ffffffffffffff00ffffffffffffffff";
        for (target, magic, mask) in [
            (
                "x86_64",
                "02010100000000000000000002003e00",
                "fffffffffffefe00fffffffffffffffffeffffff".into(),
            ),
            ("aarch64", "0201010000000000000000000200b700", format!("{f}feffffff")),
            ("arm", "01010100000000000000000002002800", format!("{f}feffffff")),
            ("s390x", "02020100000000000000000000020016", format!("{f}fffeffff")),
            ("ppc64le", "02010100000000000000000002001500", format!("{f}feffff00")),
            ("riscv64", "0201010000000000000000000200f300", format!("{f}feffffff")),
            (
                "i386",
                "01010100000000000000000002000300",
                "fffffffffffefe00fffffffffffffffffeffffff".into(),
            ),
            (
                "mips64el",
                "02010100000000000000000002000800",
                "ffffffffffffff0000fffffffffffffffeffffff".into(),
            ),
            (
                "mips64",
                "02020100000000000000000000020008",
                "ffffffffffffff0000fffffffffffffffffeffff".into(),
            ),
            (
                "loongarch64",
                "02010100000000000000000002000201",
                "fffffffffffffffc00fffffffffffffffeffffff".into(),
            ),
            (
                "alpha",
                "02010100000000000000000002002690",
                "fffffffffffefe00fffffffffffffffffeffffff".into(),
            ),
            (
                "m68k",
                "01020100000000000000000000020004",
                "fffffffffffffe00fffffffffffffffffffeffff".into(),
            ),
            ("microblaze", "0102010000000000000000000002baab", format!("{f}fffeffff")),
            (
                "mipsel",
                "010101000000000000000000020008000100000000000000000000000000000000000000",
                "ffffffffffffff0000fffffffffffffffeffffffffffffff00000000000000000000000020000000"
                    .into(),
            ),
            (
                "mipsn32",
                "010201000000000000000000000200080000000100000000000000000000000000000020",
                "ffffffffffffff0000fffffffffffffffffeffffffffffff00000000000000000000000000000020"
                    .into(),
            ),
        ] {
            let arch = Arch::by_target(target).unwrap();
            assert_eq!(hex(&arch.magic()), format!("7f454c46{magic}"), "{target}");
            assert_eq!(hex(&arch.mask()), mask, "{target}");
        }
    }

    #[test]
    fn every_probe_is_matched_by_its_own_row_and_no_other() {
        for arch in ARCHES {
            let takers: Vec<_> = ARCHES
                .iter()
                .filter(|other| matches(&arch.probe(), &other.magic(), &other.mask()))
                .collect();
            assert_eq!(takers, [arch]);
        }
    }

    /// This machine's own kind of it: the others are tried by whoever runs them.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes the program to be tried")]
    fn a_program_that_waits_waits() {
        use std::os::unix::fs::PermissionsExt;
        let Some(program) = HOST.waiting() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("waiting");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ended, None);
    }

    #[test]
    fn there_is_a_row_for_each_emulator() {
        assert_eq!(ARCHES.len(), 33);
    }
}
