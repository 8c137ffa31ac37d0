//! Lays out the records of all packages as sections of the two files.

use std::collections::{BTreeMap, BTreeSet};

use binplz_core::id::{
    key::{Bin, Rev, System},
    text::clean_line,
};

use crate::{
    bytes::{Body, Column, Span, TooLarge, small},
    details,
    drv::pack,
    lookup::{Header, Lookup, Tier, reason_key},
    names::Names,
    popular,
    record::{Obstacle, Standing},
    words::Words,
    writer::{Files, PackageRecord, drv},
};

/// The longest reason in the lookup file, in characters; the details file has all of it.
const REASON_MAX: usize = 160;

/// Both files, from packages in attribute order.
pub(crate) fn files(rev: Rev, packages: &[PackageRecord]) -> Result<Files, TooLarge> {
    let mut body = Body::default();
    let names: BTreeSet<&Bin> = packages.iter().flat_map(|known| known.programs.keys().chain(&known.main)).collect();
    let ranks: BTreeMap<&Bin, u32> = names.iter().copied().zip(0..).collect();
    let rank = |bin: &Bin| ranks.get(bin).copied().unwrap_or_default();

    let attrs = Names::write(packages.iter().map(|known| known.attr.as_str()), &mut body)?;
    let programs = Names::write(names.iter().map(|bin| bin.as_str()), &mut body)?;
    let mains: Vec<u32> = packages.iter().map(|known| known.main.as_ref().map_or(0, |main| rank(main) + 1)).collect();
    let mains = body.column(&mains)?;
    let ships =
        packages.iter().map(|known| known.programs.iter().map(|(bin, useful)| rank(bin) * 2 + u32::from(!useful)));
    let (ships_from, ships) = lists(&mut body, ships)?;
    let (shippers_from, shippers) = lists(&mut body, shippers(packages, names.len(), rank)?.into_iter())?;

    let evaluated = |system: &System| packages.iter().any(|known| known.told.on(*system).is_some());
    let (mut standings, mut drvs) = (BTreeMap::new(), BTreeMap::new());
    for system in System::ALL.into_iter().filter(evaluated) {
        let on_system = || packages.iter().map(|known| known.told.on(system));
        standings.insert(system, body.column(&on_system().map(standing_number).collect::<Vec<_>>())?);
        let packed = || on_system().map(|standing| pack(standing.and_then(drv).as_ref()));
        if packed().any(|drv| drv != pack(None)) {
            drvs.insert(system, body.section(&packed().collect::<Vec<_>>().concat())?);
        }
    }
    let Reasons { reasons, reason_texts, texts_from, texts } = reasons(&mut body, packages)?;

    let mut details = details::title(&rev).into_bytes();
    let mut blocks = Vec::new();
    for block in packages.chunks(details::BLOCK) {
        blocks.push(small(details.len())?);
        details.extend(details::pack(block.iter().map(PackageRecord::details)));
    }
    blocks.push(small(details.len())?);
    let blocks = body.column(&blocks)?;
    let words = Some(Words::write(packages, &mut details, &mut body)?);

    let header = Header {
        rev,
        attrs,
        programs,
        standings,
        drvs,
        mains,
        ships_from,
        ships,
        shippers_from,
        shippers,
        reasons,
        reason_texts,
        texts_from,
        texts,
        blocks,
        words,
    };
    Ok(Files { lookup: Lookup::<&[u8]>::file(&header, &body.into_bytes()), details })
}

/// A list for each rank: the start of each list, and the concatenated lists.
fn lists(
    body: &mut Body,
    lists: impl Iterator<Item = impl Iterator<Item = u32>>,
) -> Result<(Column, Column), TooLarge> {
    let (mut from, mut all) = (vec![0], Vec::new());
    for list in lists {
        all.extend(list);
        from.push(small(all.len())?);
    }
    Ok((body.column(&from)?, body.column(&all)?))
}

/// The packages that ship each program, the best first: by tier, then the most requested, then the least nested, then by
/// name.
fn shippers(
    packages: &[PackageRecord],
    programs: usize,
    rank: impl Fn(&Bin) -> u32,
) -> Result<Vec<std::vec::IntoIter<u32>>, TooLarge> {
    let mut shippers = vec![Vec::new(); programs];
    for (attr, known) in packages.iter().enumerate() {
        let attr = small(attr)?;
        let place = (popular::place(known.attr.as_str()), !known.requested, known.attr.parts().count());
        // A main program that is only declared counts as shipped.
        let declared = known.main.iter().filter(|main| !known.programs.contains_key(main)).map(|main| (main, &true));
        for (bin, useful) in known.programs.iter().chain(declared) {
            let namesake = [known.attr.leaf(), known.pname()].contains(&bin.as_str());
            let tier = match (useful, known.main.as_ref() == Some(bin), namesake) {
                (false, ..) => Tier::Useless,
                (true, true, _) => Tier::Main,
                (true, false, true) => Tier::Namesake,
                (true, false, false) => Tier::Other,
            };
            if let Some(list) = shippers.get_mut(rank(bin) as usize) {
                list.push((tier, place, attr));
            }
        }
    }
    Ok(shippers
        .into_iter()
        .map(|mut list| {
            list.sort_unstable();
            list.into_iter().map(|(tier, _, attr)| attr * 4 + tier as u32).collect::<Vec<_>>().into_iter()
        })
        .collect())
}

/// A standing's number in the lookup file. An attribute that only another system has is unsupported on this one.
fn standing_number(standing: Option<&Standing>) -> u32 {
    let obstacle = match standing {
        Some(Standing::Buildable { .. }) => None,
        Some(Standing::Refused { why, .. }) => Some(*why),
        None => Some(Obstacle::Unsupported),
    };
    obstacle.map_or(0, |why| why as u32 + 1)
}

/// The sections of the same names.
struct Reasons {
    reasons: Column,
    reason_texts: Column,
    texts_from: Column,
    texts: Span,
}

/// The reasons of obstacles. Equal texts are stored once.
fn reasons(body: &mut Body, packages: &[PackageRecord]) -> Result<Reasons, TooLarge> {
    let (mut keys, mut of_keys, mut known, mut from, mut texts) = (vec![], vec![], BTreeMap::new(), vec![0], vec![]);
    for (attr, package) in packages.iter().enumerate() {
        for system in System::ALL {
            let Some(Standing::Refused { detail: Some(detail), .. }) = package.told.on(system) else { continue };
            let text = clean_line(detail, REASON_MAX);
            keys.push(reason_key(attr, system).ok_or(TooLarge)?);
            if !known.contains_key(&text) {
                texts.extend_from_slice(text.as_bytes());
                from.push(small(texts.len())?);
                known.insert(text.clone(), small(known.len())?);
            }
            of_keys.extend(known.get(&text));
        }
    }
    Ok(Reasons {
        reasons: body.column(&keys)?,
        reason_texts: body.column(&of_keys)?,
        texts_from: body.column(&from)?,
        texts: body.section(&texts)?,
    })
}
