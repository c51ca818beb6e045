"""The readers of the other datasets, each on small lists of its own format."""

import gzip
import json

import pytest

import manifests
from manifests import ManifestError
from manifests.hmdb51 import LIST as HMDB_LIST

LABELS = "".join(f"sport {k}\n" for k in range(487))


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


class TestSports1M:
    def partition(self, tmp_path, *lines, name="original/train_partition.txt"):
        put(tmp_path / "labels.txt", LABELS)
        return put(tmp_path / name, "".join(f"{line}\n" for line in lines))

    def test_several_labels_whole_videos_own_order(self, tmp_path):
        path = self.partition(tmp_path, "https://www.youtube.com/watch?v=UDqivjS-lpI 168,169")
        manifest = manifests.load(path)
        (segment,) = manifest.segments
        assert manifest.dataset == "sports1m"
        assert (segment.key, segment.split) == ("UDqivjS-lpI_000000_end", "train")
        assert segment.labels == ("sport 168", "sport 169")
        assert segment.url == "https://www.youtube.com/watch?v=UDqivjS-lpI"
        assert manifest.classes[:3] == ("sport 0", "sport 1", "sport 2")
        assert len(manifest.classes) == 487

    @pytest.mark.parametrize(
        "address",
        [
            "https://www.youtube.com/watch?v=-DqivjS-lp_",
            "http://youtube.com/watch?v=-DqivjS-lp_&feature=share",
            "https://m.youtube.com/watch?feature=share&v=-DqivjS-lp_",
            "https://youtu.be/-DqivjS-lp_?t=10",
            "https://www.youtube.com/embed/-DqivjS-lp_",
        ],
    )
    def test_ids_come_from_addresses(self, tmp_path, address):
        manifest = manifests.load(self.partition(tmp_path, f"{address} 0"), strict=True)
        assert manifest.segments[0].video == "-DqivjS-lp_"

    @pytest.mark.parametrize(
        ("line", "found"),
        [
            ("https://www.youtube.com/watch?v=UDqivjS-lpI", "expected an address, a space, and"),
            ("https://www.youtube.com/watch?v=UDqivjS-lpI a", "expected an address, a space, and"),
            ("https://www.youtube.com/watch?v=UDqivjS-lpI 487", "label number 487, expected 0 to"),
            ("https://www.youtube.com/watch?v=UDqivjS-lp 1", "no address of a YouTube video"),
            ("https://www.youtube.com/watch?v=UDqivjS-lpIx 1", "no address of a YouTube video"),
            ("https://youtube.com.example.org/watch?v=UDqivjS-lpI 1", "no address of a YouTube"),
        ],
    )
    def test_refused(self, tmp_path, line, found):
        good = "https://www.youtube.com/watch?v=AAAAAAAAAAA 1"
        manifest = manifests.load(self.partition(tmp_path, good, line))
        assert manifest.rejects[0].where == "train_partition.txt:2"
        assert found in manifest.rejects[0].found

    def test_split_is_in_the_name_and_gzip_is_read(self, tmp_path):
        text = "https://www.youtube.com/watch?v=UDqivjS-lpI 1,1\n"
        put(tmp_path / "labels.txt", LABELS)
        packed = tmp_path / "sports3_test.txt.gz"
        packed.write_bytes(gzip.compress(text.encode()))
        (segment,) = manifests.load(packed).segments
        assert (segment.split, segment.labels) == ("test", ("sport 1",))
        plain = self.partition(tmp_path, text.strip(), name="cross-validation/all_urls.txt")
        assert manifests.load(plain).segments[0].split == ""

    def test_labels_file_is_needed_whole_and_part_of_the_digest(self, tmp_path):
        path = put(tmp_path / "x" / "p.txt", "https://www.youtube.com/watch?v=UDqivjS-lpI 1\n")
        with pytest.raises(ManifestError, match=r"labels.txt is neither beside .* sports1m:path"):
            manifests.load(path)
        labels = put(tmp_path / "names.txt", "a\nb\n")
        manifest = manifests.load(path, f"sports1m:{labels}")
        assert manifest.classes == ("a", "b")
        put(labels, "a\nc\nd\n")
        assert manifests.load(path, f"sports1m:{labels}").sha256 != manifest.sha256
        put(labels, "a\n\nb\nbb\n")
        with pytest.raises(ManifestError, match=r"names.txt:2: class name is ''"):
            manifests.load(path, f"sports1m:{labels}")
        put(labels, "a\nb\na\n")
        with pytest.raises(ManifestError, match=r"names.txt:3: class name is 'a', expected a new"):
            manifests.load(path, f"sports1m:{labels}")
        with pytest.raises(ManifestError, match="no such file of class names"):
            manifests.load(path, f"sports1m:{tmp_path / 'absent.txt'}")


def test_a_list_that_could_be_two_things_must_be_named(tmp_path):
    put(tmp_path / "labels.txt", LABELS)
    path = put(tmp_path / "x_test_split1.txt", "https://www.youtube.com/watch?v=UDqivjS-lpI 1\n")
    with pytest.raises(ManifestError, match="could be hmdb51 or sports1m; say which"):
        manifests.load(path)
    assert len(manifests.load(path, "sports1m")) == 1


class TestMiniKinetics:
    KINETICS = (
        "label,youtube_id,time_start,time_end,split\n"
        "abseiling,-7tDxxH2g6I,1,11,train\nabseiling,-7tDxxH2g6I,20,30,train\n"
        "zumba,zkyy5cC7SL4,5,15,train\nzumba,XXXXXXXXXXX,5,15,train\n"
    )

    def test_joined_with_the_kinetics_list(self, tmp_path):
        kinetics = put(tmp_path / "k.csv", self.KINETICS)
        path = put(tmp_path / "val_ytid_list.txt", "zkyy5cC7SL4\n-7tDxxH2g6I\nAAAAAAAAAAA\nno id\n")
        manifest = manifests.load(path, f"minikinetics:{kinetics}")
        assert [(s.key, s.labels, s.split, s.line) for s in manifest] == [
            ("zkyy5cC7SL4_000005_000015", ("zumba",), "val", 1),
            ("-7tDxxH2g6I_000001_000011", ("abseiling",), "val", 2),
            ("-7tDxxH2g6I_000020_000030", ("abseiling",), "val", 2),
        ]
        assert [(r.where, r.found) for r in manifest.rejects] == [
            ("val_ytid_list.txt:3", "AAAAAAAAAAA is not in k.csv"),
            (
                "val_ytid_list.txt:4",
                "youtube_id is 'no id', expected 11 letters, digits, '-' or '_'",
            ),
        ]

    def test_without_the_kinetics_list(self, tmp_path):
        path = put(tmp_path / "val_ytid_list.txt", "zkyy5cC7SL4\n")
        with pytest.raises(ManifestError, match="there is no such file; check the path"):
            manifests.load(path, f"minikinetics:{tmp_path / 'absent.csv'}")
        with pytest.raises(ManifestError, match=r"ids only, .* minikinetics:KINETICS_LIST"):
            manifests.load(path)


class TestUcf101:
    TRAIN = "Archery/v_Archery_g08_c01.avi 2\r\nYoYo/v_YoYo_g08_c02.avi 1\r\n"
    TEST = "Archery/v_Archery_g01_c01.avi\r\n"

    def folder(self, tmp_path, *numbers):
        put(tmp_path / "classInd.txt", "1 YoYo\r\n2 Archery\r\n")
        for number in numbers:
            put(tmp_path / f"trainlist0{number}.txt", self.TRAIN)
            put(tmp_path / f"testlist0{number}.txt", self.TEST)
        return tmp_path

    def test_one_list(self, tmp_path):
        manifest = manifests.load(self.folder(tmp_path, 1) / "trainlist01.txt", strict=True)
        assert [(s.video, s.labels, s.split, s.group) for s in manifest] == [
            ("v_Archery_g08_c01", ("Archery",), "train", "Archery_g08"),
            ("v_YoYo_g08_c02", ("YoYo",), "train", "YoYo_g08"),
        ]
        assert manifest.classes == ("YoYo", "Archery")

    def test_both_lists_of_a_split(self, tmp_path):
        folder = self.folder(tmp_path, 1)
        assert {s.split for s in manifests.load(folder, strict=True)} == {"train", "test"}
        self.folder(tmp_path, 2)
        with pytest.raises(ManifestError, match=r"splits in the folder: 1 and 2; wanted: not said"):
            manifests.load(folder)
        assert len(manifests.load(folder, "ucf101:2")) == 3
        with pytest.raises(ManifestError, match=r"1 and 2; wanted: 3; say one: --dataset ucf101:1"):
            manifests.load(folder, "ucf101:3")

    def test_a_video_on_both_sides_is_refused(self, tmp_path):
        folder = self.folder(tmp_path, 1)
        put(folder / "testlist01.txt", "YoYo/v_YoYo_g08_c02.avi\n")
        (refused,) = manifests.load(folder).rejects
        assert refused.where == tmp_path.name
        assert refused.found == (
            "the segment v_YoYo_g08_c02_000000_end stands there more than once"
        )

    def test_refused(self, tmp_path):
        put(tmp_path / "classInd.txt", "1 YoYo\n2 Archery\n")
        path = put(
            tmp_path / "trainlist01.txt",
            "YoYo/v_YoYo_g08_c02.avi 1\nYoYo/v_YoYo_g08_c03.avi 2\nTaiChi/v_TaiChi_g08_c03.avi 2\n"
            "v_TaiChi_g08_c03.avi 2\n",
        )
        assert [r.found for r in manifests.load(path).rejects] == [
            "class number 2, but YoYo is 1",
            "class 'TaiChi' is not in classInd.txt",
            "found 'v_TaiChi_g08_c03.avi 2', expected Class/v_Class_gNN_cNN.avi and a class number",
        ]

    def test_without_class_list_classes_are_sorted(self, tmp_path):
        path = put(tmp_path / "testlist02.txt", "YoYo/v_YoYo_g08_c02.avi\n" + self.TEST)
        manifest = manifests.load(path, strict=True)
        assert manifest.classes == ("Archery", "YoYo")


class TestHmdb51:
    def test_parts_names_and_groups(self, tmp_path):
        put(
            tmp_path / "brush_hair_test_split1.txt",
            "A_film!_(x)_brush_hair_u_nm_np1_fr_goo_5.avi 1 \n"
            "b_brush_hair_u_nm_np1_fr_goo_5.avi 0 \n",
        )
        put(
            tmp_path / "wave_test_split1.txt",
            "wave_and_say_hi_wave_u_nm_np1_fr_med_0.avi 2 \nodd.avi 1\nx.avi 3\n",
        )
        manifest = manifests.load(tmp_path)
        assert [(s.video, s.labels, s.split, s.group) for s in manifest] == [
            ("A_film!_(x)_brush_hair_u_nm_np1_fr_goo_5", ("brush_hair",), "train", "A_film!_(x)"),
            ("wave_and_say_hi_wave_u_nm_np1_fr_med_0", ("wave",), "test", "wave_and_say_hi"),
            ("odd", ("wave",), "train", ""),
        ]
        assert manifest.rejects[0].where == "wave_test_split1.txt:3"
        assert manifest.rejects[0].found == "found 'x.avi 3', expected a file name and 0, 1 or 2"
        assert HMDB_LIST.fullmatch("wave_test_split1.txt")

    def test_one_file(self, tmp_path):
        path = put(tmp_path / "wave_test_split2.txt", "a_wave_u_nm_np1_fr_med_0.avi 1\n")
        assert manifests.load(path).classes == ("wave",)


ACTIVITYNET_ENTRY = {
    "duration": 82.73,
    "subset": "training",
    "url": "https://www.youtube.com/watch?v=QOlSCBRmfWY",
    "annotations": [
        {"segment": [6.75, 53.9], "label": "Drinking coffee"},
        {"segment": [60, 70], "label": "Drinking coffee"},
    ],
}


class TestActivityNet:
    def database(self, tmp_path, **videos):
        document = {"taxonomy": [{"nodeId": 1}], "version": "VERSION 1.3", "database": videos}
        return put(tmp_path / "activity_net.v1-3.min.json", json.dumps(document))

    def test_annotations_are_segments(self, tmp_path):
        path = self.database(
            tmp_path,
            QOlSCBRmfWY=ACTIVITYNET_ENTRY,
            AAAAAAAAAAA={"subset": "testing", "annotations": []},
        )
        manifest = manifests.load(path, strict=True)
        assert manifest.dataset == "activitynet"
        assert [(s.key, s.labels, s.split, s.group) for s in manifest] == [
            ("QOlSCBRmfWY_6750ms_53900ms", ("Drinking coffee",), "train", "QOlSCBRmfWY"),
            ("QOlSCBRmfWY_000060_000070", ("Drinking coffee",), "train", "QOlSCBRmfWY"),
            ("AAAAAAAAAAA_000000_end", (), "test", "AAAAAAAAAAA"),
        ]
        prefixed = manifests.load(path, "activitynet:v_")
        assert prefixed.segments[0].video == "v_QOlSCBRmfWY"

    def test_refused(self, tmp_path):
        path = self.database(
            tmp_path,
            QOlSCBRmfWY=ACTIVITYNET_ENTRY,
            AAAAAAAAAAB={"annotations": [{"segment": [5, 5], "label": "x"}, "no object"]},
            AAAAAAAAAAC="no object",
            short={"annotations": []},
        )
        found = [r.found for r in manifests.load(path).rejects]
        assert found == [
            "time_end 5.0 is not after time_start 5.0",
            "segment of 'AAAAAAAAAAB' is None, expected [start, end]",
            "the entry of 'AAAAAAAAAAC' is str, expected an object",
            "youtube_id is 'short', expected 11 letters, digits, '-' or '_'",
        ]

    def test_no_database(self, tmp_path):
        path = put(tmp_path / "a.json", '{"version": "1.3"}')
        with pytest.raises(ManifestError, match="no member 'database'"):
            manifests.load(path)


class TestMmaction:
    def test_videos(self, tmp_path):
        path = put(
            tmp_path / "kinetics400_val_list_videos.txt",
            "abseiling/0wR5jVB-WPk.mp4 0\nriding a bike/-a b.mkv 10 2\nno number.mp4\n",
        )
        manifest = manifests.load(path)
        assert manifest.dataset == "mmaction"
        assert [(s.video, s.labels, s.split) for s in manifest] == [
            ("abseiling/0wR5jVB-WPk.mp4", ("0",), "val"),
            ("riding a bike/-a b.mkv", ("10", "2"), "val"),
        ]
        assert manifest.classes == ("0", "2", "10")
        assert "expected a path and a class number" in manifest.rejects[0].found

    def test_folders_of_frames_and_names(self, tmp_path):
        names = put(tmp_path / "names.txt", "YoYo\nArchery\n")
        path = put(
            tmp_path / "ucf101_rgb_train_split_1.txt",
            "v_Archery_g08_c01 120 1\nv_Archery_g08_c02 120 2\nv_Archery_g08_c03 1\n",
        )
        assert manifests.load(path).dataset == "mmaction"
        manifest = manifests.load(path, f"tsn:{names}")
        assert [(s.video, s.labels) for s in manifest] == [("v_Archery_g08_c01", ("Archery",))]
        assert manifest.classes == ("YoYo", "Archery")
        assert [r.found for r in manifest.rejects] == [
            "class number 2, expected 0 to 1",
            "1 numbers after a folder of frames, expected frames and class",
        ]


class TestFailures:
    def test_what_failed_is_read_once_and_exactly(self, tmp_path):
        path = put(
            tmp_path / "failures.csv",
            "video,start,end,label,split,group,code,detail,attempts,will_be_retried,recipe\n"
            "-0Kz1lwvjdU,417.0,427.25,flip|fry,val,k 1,gone,'=404,1,False,a-1\n"
            "cooking/pan.mp4,0.0,,,,,timeout,x,2,True,a-1\n"
            "-0Kz1lwvjdU,417.0,427.25,flip|fry,val,k 1,gone,'=404,1,False,b-2\n",
        )
        manifest = manifests.load(path, strict=True)
        assert manifest.dataset == "failures"
        assert [(s.key, s.labels, s.split, s.group) for s in manifest] == [
            ("-0Kz1lwvjdU_417000ms_427250ms", ("flip", "fry"), "val", "k 1"),
            ("cooking/pan.mp4_000000_end", (), "", ""),
        ]
