//! The longest-prefix match: per routing table and family a trie whose leaves
//! are numbers of answers (see `answers`), or for a small table a sorted list
//! of intervals.
//!
//! ```text
//! IPv4   bits 0-17             18-23    24-29    30-31
//!        wide root             runs     runs     runs        2^18 entries
//! IPv4   bits 0-8     9-17     18-23    24-29    30-31
//!        dense page   dense    runs     runs     runs        page of 512 entries
//! IPv6   bits 0-7     8-15     16-23    24-31 ... 120-127
//!        dense page   dense    dense    runs     runs        page of 256 entries
//! ```
//!
//! A wide root is what a large IPv4 table main has ([`wide`]), pages are what
//! others have. An entry of 32 bits is a leaf or refers to a node of the next level
//! (`layout::tag`). Leaves are pushed: what is found last is the answer, there
//! is nothing to remember on the way. A dense page has one entry for every
//! value of its bits. A node of runs stores each run of equal entries once:
//!
//! ```text
//! IPv4    word 0      a bit where a run ends; the number of bits from one's
//!                     own on is the run's number, from the last one backwards
//!              1 ...  entries of 16 bits, the last run's first: the number of an
//!                     answer, or the highest bit and where in the node, in
//!                     entries of 32 bits,
//!              ...    the entry of 32 bits of such a run stands
//! IPv6    word 0      four times 16 bits: where in the node, in entries of 32
//!                     bits, the runs of each quarter begin, less one
//!              1-4    the bitmaps of the quarters
//!              5 ...  entries: 32 bits each
//! ```
//!
//! The kinds are as few as that because a lookup must not have to ask which one it
//! met (`walk`). What needs 32 bits in an IPv4 node are nodes below it, so
//! prefixes longer than 24 bits, and numbers over 32,767: a lookup of anything
//! else doesn't notice.
//!
//! Prefixes that cover much are no part of the trie: in table main those of fewer
//! than eight bits, elsewhere the default route. Where nothing else is, a leaf has
//! one of the numbers that stand for them (`layout::none`), so that changing them
//! changes no leaf.
//!
//! How a change finds what it owns: the writer notes in its own memory, for
//! every entry, the length of the prefix that it comes from. A prefix of length
//! L with a new answer takes over the entries in its range that come from
//! prefixes of length ≤ L; one that goes hands those of length L to the longest
//! prefix around it. No list of prefixes per node is needed.
pub(crate) mod ahead;
pub(crate) mod census;
pub(crate) mod node;
pub(crate) mod paint;
pub(crate) mod small;
pub(crate) mod walk;
pub(crate) mod wide;

pub(crate) use paint::{Painter, Slot};
pub(crate) use wide::Wide;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rtm_model::{Family, mask};

    use super::walk::{walk4, walk6};
    use super::*;
    use crate::instructions::Portable;
    use crate::layout::{none, tag, wide, word_of};
    use crate::store::Store;
    use crate::testing::{self, Random};

    type Model = BTreeMap<(u128, u8), u32>;

    fn covering(model: &Model, bits: u128, below: u8) -> Slot {
        (1..below)
            .rev()
            .find_map(|len| {
                model.get(&(bits & mask(len), len)).map(|&answer| Slot::leaf(answer, len))
            })
            .unwrap_or(Slot::none(none::DEFAULT))
    }

    fn expected(model: &Model, address: u128) -> u32 {
        covering(model, address, 129).entry & !tag::LEAF
    }

    /// A prefix where many share their first bits.
    fn prefix(random: &mut Random, family: Family) -> (u128, u8) {
        let len = 1 + random.below(u64::from(family.bits())) as u8;
        let words = [random.next(), random.next()];
        let mut bits = u128::from(words[0]) << 64 | u128::from(words[1]);
        if random.below(4) > 0 {
            bits &= 0x0300_01c0_0380_0103_0003_0001_0000_0003;
        }
        (bits & mask(len), len)
    }

    fn run(family: Family, answers: u64, seed: u64, is_wide: bool) {
        let mut store = testing::store(1 << 22);
        let mut painter = Painter::default();
        let mut root = paint::empty(&mut store, family, false).unwrap();
        let mut wide = is_wide.then(|| Wide::of_pages(&mut store, root).unwrap());
        let mut paint = |store: &mut _, wide: &mut Option<Wide>, root, bits, len, slot| match wide {
            None => painter.paint(store, family, root, bits, len, slot).unwrap(),
            Some(wide) => {
                painter.paint_wide(store, wide, bits, len, slot).unwrap();
                wide.reference()
            }
        };
        let mut model = Model::new();
        let mut random = Random(seed);
        let mut version = 0;
        let all = if family == Family::V4 { mask(32) } else { u128::MAX };
        for step in 0..4_000_u64 {
            let growing = step % 2000 < 1200;
            let (mut bits, mut len) = prefix(&mut random, family);
            if random.below(10) < if growing { 8 } else { 1 } {
                let answer = 1 + random.below(answers) as u32;
                model.insert((bits, len), answer);
                let slot = Slot::leaf(answer, len);
                root = paint(&mut store, &mut wide, root, bits, len, slot);
            } else {
                if let Some((&found, _)) = model.range((bits, len)..).next() {
                    (bits, len) = found;
                }
                if model.remove(&(bits, len)).is_some() {
                    let other = covering(&model, bits, len);
                    root = paint(&mut store, &mut wide, root, bits, len, other);
                }
            }
            for _ in 0..4 {
                let (mut probe, _) = prefix(&mut random, family);
                if random.below(2) == 0 {
                    probe = bits | (probe & !mask(len));
                }
                for address in [probe, bits, bits.wrapping_sub(1 << 96), bits | !mask(len)] {
                    let address = address & all;
                    let found = match family {
                        Family::V4 => walk4(store.mem(), Portable, root, (address >> 96) as u32),
                        Family::V6 => walk6(store.mem(), Portable, root, address),
                    };
                    assert_eq!(found, expected(&model, address), "{step} {address:x}");
                }
            }
            if step % 10 == 0 {
                version += 1;
                store.committed(version);
                wide.iter_mut().for_each(Wide::committed);
            }
            // Pages and back, in the middle.
            if is_wide && step == 1_000 {
                let pages = wide.take().unwrap().into_pages(&mut store).unwrap();
                wide = Some(Wide::of_pages(&mut store, pages).unwrap());
            }
        }
        if let Some(wide) = wide.take() {
            root = wide.into_pages(&mut store).unwrap();
        }
        // The counts level by level are those of the book.
        for _ in 0..3 {
            version += 1;
            store.committed(version);
        }
        let (mut levels, mut left) = (Vec::new(), usize::MAX);
        census::count(store.mem(), family, root, &mut levels, &mut left);
        let parts = store.parts();
        let nodes = parts.iter().filter(|part| part.name.starts_with("lookup nodes"));
        let counted = levels.iter().map(|level| level.nodes).sum::<u64>();
        assert_eq!(counted, nodes.map(|part| part.count).sum());
        assert_eq!(counted, 1 + levels.iter().map(|level| level.below).sum::<u64>());
        let everything: Vec<(u128, u8)> = model.keys().copied().collect();
        for (bits, len) in everything {
            model.remove(&(bits, len));
            let other = covering(&model, bits, len);
            root = paint(&mut store, &mut wide, root, bits, len, other);
        }
        assert!(store.usage().used <= 2048, "only the first page is left: {:?}", store.usage());
        paint::clear(&mut store, family, root);
        for _ in 0..3 {
            version += 1;
            store.committed(version);
        }
        assert_eq!(store.usage().used, 0);
    }

    #[test]
    fn agrees_with_a_model_v4() {
        run(Family::V4, 3, 1, false);
        run(Family::V4, 1 << 20, 2, false);
    }

    #[test]
    fn agrees_with_a_model_under_a_wide_root() {
        run(Family::V4, 3, 6, true);
        run(Family::V4, 1 << 20, 7, true);
    }

    #[test]
    fn a_version_of_a_wide_root_stays_until_two_more_were_published() {
        let mut store = testing::store(1 << 23);
        let pages = paint::empty(&mut store, Family::V4, false).unwrap();
        let mut wide = Wide::of_pages(&mut store, pages).unwrap();
        let mut painter = Painter::default();
        let mut random = Random(8);
        // The last two versions, as they were published.
        let mut seen: Vec<(u32, Vec<u32>)> = Vec::new();
        let all = |store: &_, root| -> Vec<u32> {
            (0..wide::SIZE).map(|index| Store::get32(store, word_of(root), index)).collect()
        };
        for version in 1..60 {
            let many = if version % 20 == 0 { 40_000 } else { random.below(30) };
            for _ in 0..many {
                let len = if many > 30 { 18 } else { 12 + random.below(7) as u8 };
                let bits = u128::from(random.next()) << 64 & mask(len);
                let slot = Slot::leaf(1 + random.below(9) as u32, len);
                painter.paint_wide(&mut store, &mut wide, bits, len, slot).unwrap();
            }
            store.committed(version);
            wide.committed();
            for (root, entries) in &seen {
                assert!(all(&store, *root) == *entries, "{version}");
            }
            if seen.len() == 2 {
                seen.remove(0);
            }
            seen.push((wide.reference(), all(&store, wide.reference())));
        }
    }

    #[test]
    fn agrees_with_a_model_v6() {
        run(Family::V6, 3, 3, false);
        run(Family::V6, 1 << 20, 4, false);
    }

    #[test]
    fn small_tables_agree_with_a_model() {
        let mut random = Random(5);
        for family in [Family::V4, Family::V6] {
            let all = if family == Family::V4 { mask(32) } else { u128::MAX };
            for _ in 0..300 {
                let mut store = testing::store(1 << 20);
                let mut model = Model::new();
                for _ in 0..random.below(40) {
                    let answer = 1 + random.below(3) as u32;
                    model.insert(prefix(&mut random, family), answer);
                }
                let painted: Vec<small::Painted> = model
                    .iter()
                    .map(|(&(bits, len), &answer)| small::Painted { bits, len, answer })
                    .collect();
                let root = small::build(&mut store, family, &painted).unwrap();
                let probes = painted
                    .iter()
                    .flat_map(|p| [p.bits, p.bits | !mask(p.len), p.bits.wrapping_sub(1)]);
                for address in probes.chain([0, u128::MAX, random.next().into()]) {
                    let address = address & all;
                    let found = match family {
                        Family::V4 => walk4(store.mem(), Portable, root, (address >> 96) as u32),
                        Family::V6 => walk6(store.mem(), Portable, root, address),
                    };
                    assert_eq!(found, expected(&model, address), "{address:x} {model:x?}");
                }
            }
        }
    }
}
