//! Seeds of lists and image names. They refer to the images that the targets create.

use crate::Seeds;

pub(crate) fn seeds() -> [Seeds; 9] {
    let city = "<?xml version=\"1.0\" encoding=\"gb2312\"?>\n<TrainingImages><Items number=\"2\">\n\
        <Item imageName=\"000001.jpg\" vehicleID=\"0001\" cameraID=\"c001\"/>\n\
        <Item imageName='000002.jpg' vehicleID='2' cameraID='c2'></Item>\n\
        </Items><!-- end --></TrainingImages>\n";
    [
        (
            "csv",
            texts(&[
                "path,identity,split\n1.jpg,anna,train\n2.jpg,bert,train\n3.jpg,carl,query\n4.jpg,carl,gallery\n",
                "camera,identity,path,split\r\n1,7,1.jpg,train\r\n2,8,2.jpg,train\r\n,9,3.jpg,query\r\n\
                 4,9,4.jpg,gallery\r\n5,-1,5.jpg,gallery\r\n",
                "\u{feff}\"path\" , \"identity\",split\n \"1.jpg\",\"a,\"\"b\",train\n2.jpg,c,train\n\
                 3.jpg,nan,query\n4.jpg,1.0,gallery\n",
            ]),
        ),
        ("xml", texts(&[city])),
        (
            "tracks",
            texts(&["1 2\n3\n4\n", "01 000001.jpg 000002.jpg\n", "1 3_c1_1_0.jpg\n2 3_c2_1_0.jpg 4_c2_1_0.jpg\n"]),
        ),
        (
            "msmt17",
            texts(&["0/0_0_1_m.jpg 0\n0/0_1_2_m.jpg 0\n\u{0}1/1_0_1_m.jpg 1\n\u{0}0/0_0_1_m.jpg 0\n\u{0}\
                     0/0_1_2_m.jpg 0\n1/1_1_15_m.jpg 1\n"]),
        ),
        (
            "veri-wild",
            texts(&["id/image;Camera ID;Time\n1/1;1;x\n2/3;2;x\n3/4;3;x\n3/5;4;x\n\u{0}1/1 1 1\n2/3.jpg 2 2\n\u{0}\
                     3/4\n\u{0}3/5\n"]),
        ),
        (
            "cifar",
            texts(&["\u{0}\u{1}\n\u{0}\u{5}\u{0}a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "\u{1}\u{0}\u{1}\u{2}\u{0}\u{b}"]),
        ),
        (
            "vehicle-id",
            texts(&["1 0\n2 1\n\u{0}3 2\n4 2\n5 3\n6 3\n"]),
        ),
        (
            "names",
            texts(&[
                "00002_c1s1_000451_03.jpg\n07_c3s2_1_1.jpg\n11_c1s1_2_0.jpg\n2-1_c1s1_1_1.jpg\n20000_c2s1_3_1.JPG",
                "101_c2_f0046182.jpg\n02_c3_f1.png\n15_c2_f2.jpg\n25_c5_f3.bmp",
                "201_c1_1.png\n02_c2_2_3.png\n15_c2_2.jpg\n25_c5_3.jpg",
                "301_c001_1_0.jpg\n02_c2_1_0.jpg\n15_c2_2_0.jpg\n25_c5_3_0.jpg",
            ]),
        ),
        ("folders", texts(&["0anna\n0bert\n1carl\n2carl\n", "01\n02\n13\n23\n2-1\n20", "0André\n0Andre\u{301}\n1b\n2b"])),
    ]
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
