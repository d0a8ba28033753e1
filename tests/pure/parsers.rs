//! Whatever bytes come, the parsers neither panic nor lose what they do not understand.

use binfmtctl::testing::{ARCHES, Entry, File};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_text_is_an_entry_or_an_error(text in "\\PC*") {
        let _ = Entry::parse("x", &text);
    }

    /// Lines as the kernel writes them, known and unknown, come out as they went in.
    #[test]
    fn entries_survive_the_round_trip(
        enabled in any::<bool>(),
        interpreter in "/[a-z0-9/. -]{0,40}[a-z]",
        flags in "[POCFTLD]{0,7}",
        offset in 0usize..200,
        magic in "([0-9a-f]{2}){1,64}",
        masked in any::<bool>(),
        unknown in "[g-l]{3,10} [a-z0-9 ]{0,20}",
    ) {
        let state = if enabled { "enabled" } else { "disabled" };
        let mask = if masked { format!("mask {magic}\n") } else { String::new() };
        let text = format!("{state}\ninterpreter {interpreter}\nflags: {flags}\noffset {offset}\nmagic {magic}\n{mask}{unknown}\n");
        prop_assert_eq!(Entry::parse("x", &text).unwrap().to_string(), text);
    }

    #[test]
    fn any_bytes_are_some_file(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = File::parse(&bytes);
        let mut elf = b"\x7fELF".to_vec();
        elf.extend(&bytes);
        let _ = File::parse(&elf);
    }

    /// Every field of a header may hold anything.
    #[test]
    fn a_program_with_any_byte_changed_is_read(at in 0usize..170, byte in any::<u8>(), cut in 0usize..170) {
        for arch in ARCHES {
            let mut program = arch.probe();
            let len = program.len();
            program[at % len] = byte;
            let _ = File::parse(&program);
            let _ = File::parse(&program[..cut % len]);
        }
    }
}
