//! What the page says of profiles that are made for it.

use super::*;

#[test]
fn the_tree_sums_what_passes_through_a_function() {
    let profile = Profile::of_sites(&[(&[0x11, 2], 3, 1), (&[0x21, 2], 30, 6)]);
    let (names, nodes) = data_tree(&profile);
    assert_eq!(names, ["all", "0x1", "0x20", "0x10"]);
    // Bytes in use, allocated, at the peak; then objects.
    let values = |at: usize| nodes[at].as_array().unwrap()[..8].to_vec().into();
    let value = |row| -> Value { row };
    assert_eq!(value(values(0)), json!([0, null, 70, 330, 70, 7, 33, 7]));
    assert_eq!(value(values(1)), json!([1, 0, 70, 330, 70, 7, 33, 7]));
    assert_eq!(value(values(2)), json!([2, 1, 60, 300, 60, 6, 30, 6]));
    // An error bar for each, in thousandths, narrower where there are more samples.
    let error = |at: usize| nodes[at][9].as_u64().unwrap();
    assert!(error(0) <= error(2) && error(2) < error(3), "{nodes:?}");
}

#[test]
fn an_error_that_is_rounded_to_none_is_not_exact() {
    let error = |objects, objects_error| {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 3)]);
        profile.sites[0].in_use = Amount {
            samples: 900_000,
            objects,
            bytes: objects * 10,
            objects_error,
            bytes_error: objects_error * 10,
            ..Amount::default()
        };
        let (shown, (_, nodes)) = (amount(&profile.sites[0].in_use), data_tree(&profile));
        (shown["exact"] == true, nodes[1][8].as_u64())
    };
    assert_eq!(error(900_000, 0), (true, Some(0)));
    assert_eq!(error(900_001, 0), (false, Some(1)));
    assert_eq!(error(900_000, 1), (false, Some(1)));
}

#[test]
fn the_peak_is_of_blocks_as_what_is_in_use_and_says_what_it_covers() {
    let sampled = |samples, objects, objects_error| {
        let mut peak = Amount { samples, objects, objects_error, ..Amount::default() };
        (peak.bytes, peak.block_bytes) = (objects * 20, objects * 32);
        peak.bytes_error = objects_error * 20;
        profile::Site { allocated: peak, peak, ..profile::Site::default() }
    };
    let class = ClassStats { allocs: 10, ..ClassStats::default() };
    let stats = Stats { classes: vec![class], ..Stats::default() };
    let tile = |sampled| tiles(&stats, &sampled, 90_000_000_000)[3].clone();
    assert_eq!(tile(sampled(10, 10, 0)), json!(["Peak", "320 B", "exact"]));
    let (some, since) = ("Peak of what was sampled", "since sampling began, 90.0 s ago");
    let mut partly = sampled(2, 2, 0);
    partly.in_use.block_bytes = 32;
    let what = format!("{since}; of the same, 32 B now");
    assert_eq!(tile(partly), json!([some, "64 B", what]));
    let what = format!("estimated, ±54.8%, {since}; of the same, 0 B now");
    assert_eq!(tile(sampled(4, 8, 2)), json!([some, "256 B", what]));
    assert_eq!(tile(sampled(0, 0, 0)), json!(["Peak", "0 B", "not sampled"]));
}

#[test]
fn the_tree_has_objects_without_a_byte() {
    let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1), (&[0x21, 2], 30, 6)]);
    let site = &mut profile.sites[0];
    (site.allocated.bytes, site.in_use.bytes) = (0, 0);
    let (names, nodes) = data_tree(&profile);
    assert_eq!(names, ["all", "0x1", "0x20", "0x10"]);
    let objects = |at: usize| (nodes[at][5].as_u64(), nodes[at][6].as_u64());
    assert_eq!((objects(0), objects(3)), ((Some(7), Some(33)), (Some(1), Some(3))));
}

#[test]
fn lifetimes_beyond_the_last_bound_are_no_upper_bounds() {
    let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
    let mut objects = vec![0; Lifetimes::buckets()];
    (objects[2], objects[Lifetimes::buckets() - 1]) = (7, 3);
    profile.sites[0].lifetimes.objects.clone_from(&objects);
    let site = site(&calls(&profile)[0]);
    assert_eq!((&site["median_ns"], &site["median_beyond"]), (&json!(16_000), &json!(false)));
    assert_eq!(site["age_ns"], json!(7_000));
    assert!(SCRIPT.contains("time(site.age_ns)"));
    let mut size = BlockSize::sampled(1, 32, &[20]);
    size.lifetimes.objects = objects;
    let class = ClassStats { block_bytes: 32, allocs: 1, ..ClassStats::default() };
    let stats = Stats { classes: vec![class], ..Stats::default() };
    let row = &classes(&stats, &[size])[0];
    assert_eq!((&row["median_beyond"], &row["most_beyond"]), (&json!(false), &json!(true)));
    assert!(SCRIPT.contains("life(size.most_ns, size.most_beyond)"));
}

#[test]
fn a_site_is_called_by_the_programs_function() {
    let frame = |function: &str, file: &str| {
        std::sync::Arc::new(crate::profile::symbols::Frame {
            function: function.into(),
            file: (!file.is_empty()).then(|| file.into()),
            line: Some(1),
        })
    };
    let mut call = calls(&Profile::of_sites(&[(&[0x11], 3, 1)])).remove(0);
    let mut title = |frames| {
        call.frames = frames;
        site(&call)["title"].clone()
    };
    // By its trait the leaf could be anybody's: the file tells.
    let convert = "<u8 as <[_]>::to_vec_in::ConvertVec>::to_vec::<alloc::alloc::Global>";
    let (leaf, own) = (frame(convert, "/rustc/1/slice.rs"), frame("app::run", "src/main.rs"));
    assert_eq!(title(vec![leaf, own.clone()]), "app::run");
    assert_eq!(title(vec![frame("alloc::vec::from_elem", ""), own]), "app::run");
    assert_eq!(title(vec![frame("alloc::vec::from_elem", "")]), "alloc::vec::from_elem");
}

#[test]
fn where_nothing_was_sampled_the_way_to_samples_is_said() {
    let profile = Profile { interval_bytes: 0, ..Profile::of_sites(&[]) };
    let types = rest(&profile, &[], &Stats::default())["types"].clone();
    assert!(types[0]["nothing"].as_str().unwrap().contains("SPANALLOC=sample=512KiB"), "{types}");
}

fn data_tree(profile: &Profile) -> (Vec<String>, Vec<Value>) {
    let calls = calls(profile);
    let (names, nodes) = tree(&calls);
    let nodes = nodes.iter().map(|node| serde_json::to_value(node).unwrap()).collect();
    (names.into_iter().map(str::to_owned).collect(), nodes)
}

#[test]
fn the_page_holds_everything_and_names_cannot_end_its_script() {
    let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
    profile.threads.push(Group {
        name: "</script><b>".into(),
        allocated: Amount::default(),
        in_use: Amount::default(),
    });
    let mut page = Vec::new();
    profile.write_html(&Stats::default(), &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("\\u003c/script>\\u003cb>"));
    assert!(page.contains("2.0 s; 2 samples, one per 4.00 KiB;"));
    assert_eq!(page.matches("</script>").count(), 2);
    for placeholder in ["/*STYLE*/", "/*DATA*/", "/*SCRIPT*/", "http://", "https://"] {
        assert!(!page.contains(placeholder), "{placeholder}");
    }
}
