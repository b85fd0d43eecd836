use std::{sync::Barrier, thread};

use proptest::prelude::*;

use super::*;

const CELL: Cell<'static> = Cell {
    tenant: "t1",
    table: "schedules",
    row: "r1",
    column: "callback_secret",
};

fn ring(bytes: &[u8]) -> Keyring {
    let list: Vec<_> = bytes.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
    Keyring::from_base64(&list.join(" , ")).unwrap()
}

#[test]
fn a_sealed_value_opens_only_in_its_own_cell() {
    let ring = ring(&[7]);
    let sealed = ring.seal(&Ids::seeded(1), &CELL, "hunter2");
    assert_eq!(ring.open(&CELL, &sealed).unwrap().expose_secret(), "hunter2");
    assert_eq!(sealed.len(), HEAD_BYTES + 7 + 16);
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    for moved in [
        Cell { tenant: "t2", ..CELL },
        Cell {
            table: "webhooks",
            ..CELL
        },
        Cell { row: "r2", ..CELL },
        Cell {
            column: "value",
            ..CELL
        },
        // The same letters, cut elsewhere.
        Cell {
            tenant: "t1s",
            table: "chedules",
            ..CELL
        },
        Cell {
            tenant: "t1schedules",
            table: "",
            ..CELL
        },
        Cell {
            tenant: "t1\0schedules",
            table: "",
            ..CELL
        },
    ] {
        assert_eq!(
            ring.open(&moved, &sealed).unwrap_err(),
            OpenError::Damaged,
            "{moved:?}"
        );
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let ring = ring(&[7, 8]);
    let sealed = ring.seal(&Ids::seeded(1), &CELL, "hunter2");
    for at in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(ring.open(&CELL, &changed).is_err(), "bit {at}");
    }
    for length in 0..sealed.len() {
        assert!(ring.open(&CELL, &sealed[..length]).is_err(), "{length} bytes");
    }
    assert!(ring.open(&CELL, &[&sealed[..], &[0]].concat()).is_err());
}

#[test]
fn the_first_key_seals_and_all_keys_open() {
    let ids = Ids::seeded(1);
    let (old, rotated, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let before = old.seal(&ids, &CELL, "a");
    let after = rotated.seal(&ids, &CELL, "b");
    assert_eq!(rotated.open(&CELL, &before).unwrap().expose_secret(), "a");
    assert_eq!(new.open(&CELL, &after).unwrap().expose_secret(), "b");
    let lost = new.open(&CELL, &before).unwrap_err();
    assert_eq!(lost, OpenError::UnknownKey { key_id: old.key_id() });
    assert!(lost.to_string().contains(&old.key_id()));
    assert_eq!(rotated.key_id(), new.key_id());
    // The nonce is new every time.
    assert_ne!(new.seal(&ids, &CELL, "b"), new.seal(&ids, &CELL, "b"));
}

#[test]
fn a_fingerprint_depends_on_secret_tenant_and_key_and_shows_none() {
    let one = ring(&[1]).fingerprint("t", "hunter2");
    assert_eq!(one, ring(&[1, 2]).fingerprint("t", "hunter2"));
    assert_eq!(one.len(), 64);
    for other in [
        ring(&[1]).fingerprint("t", "hunter3"),
        ring(&[1]).fingerprint("u", "hunter2"),
        ring(&[1]).fingerprint("th", "unter2"),
        ring(&[2, 1]).fingerprint("t", "hunter2"),
        hex(&mac(&[1; 32], &["t", "hunter2"])),
        hex(&Sha256::digest("hunter2")),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn a_malformed_list_names_the_key_and_repeats_none() {
    let good = STANDARD.encode([1; 32]);
    let short = STANDARD.encode([1; 31]);
    for (list, position) in [
        (String::new(), 1),
        ("correct horse battery staple".to_owned(), 1),
        (short.clone(), 1),
        (format!("{good},"), 2),
        (format!("{good},{good},{short}"), 3),
    ] {
        let error = Keyring::from_base64(&list).unwrap_err();
        let named = matches!(error, KeyringError::Format { position: named } if named == position);
        assert!(named, "{error:?}");
        assert!(!format!("{error} {error:?}").contains("horse"));
    }
    let ring = Keyring::from_base64(&good).unwrap();
    let shown = format!("{ring:?}");
    assert!(
        shown.contains(&ring.key_id()) && !shown.contains(&good),
        "{shown}"
    );
}

#[test]
fn a_key_file_is_made_once_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    let first = Keyring::load_or_create(&path, &Ids::seeded(1)).unwrap();
    let again = Keyring::load_or_create(&path, &Ids::seeded(2)).unwrap();
    assert_eq!(first.key_id(), again.key_id());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft is left"
    );

    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Keyring::load_or_create(&path, &Ids::seeded(3)).unwrap_err();
        assert!(matches!(error, KeyringError::OpenToOthers { .. }), "{error:?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(
        Keyring::load_or_create(&path, &Ids::seeded(3)).unwrap().key_id(),
        first.key_id()
    );
}

#[test]
fn a_damaged_key_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    for content in ["", "short", &"A".repeat(10_000)] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            Keyring::load_or_create(&path, &Ids::seeded(1)).is_err(),
            "{content}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    assert!(Keyring::load_or_create(folder.path(), &Ids::seeded(1)).is_err());
    assert!(Keyring::load_or_create(&folder.path().join("none/secret.key"), &Ids::seeded(1)).is_err());
}

#[test]
fn all_that_start_at_once_end_with_the_same_key() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let start = Barrier::new(8);
        let found: Vec<String> = thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|seed| {
                    let (start, path) = (&start, &path);
                    scope.spawn(move || {
                        start.wait();
                        let ids = Ids::seeded(round * 8 + seed);
                        Keyring::load_or_create(path, &ids).unwrap().key_id()
                    })
                })
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        assert!(found.iter().all(|id| *id == found[0]), "{found:?}");
    }
}

proptest! {
    #[test]
    fn any_text_comes_back(plain in "\\PC{0,200}", seed: u64) {
        let ring = ring(&[9]);
        let sealed = ring.seal(&Ids::seeded(seed), &CELL, &plain);
        let opened = ring.open(&CELL, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), plain.as_str());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(ring(&[9]).open(&CELL, &bytes).is_err());
    }

    #[test]
    fn no_two_cells_read_the_same(a: [String; 4], b: [String; 4]) {
        let data = |[tenant, table, row, column]: &[String; 4]| {
            Cell { tenant, table, row, column }.associated_data()
        };
        prop_assert_eq!(data(&a) == data(&b), a == b);
    }
}
