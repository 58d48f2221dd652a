//! The report's tables as comma-separated values (RFC 4180): names are quoted where they have to be.

use std::fmt::Write;
use std::path::PathBuf;

use super::super::classification::{Classification, Scores};
use super::super::csv::field;
use crate::net::Prediction;

/// `predictions.csv`: a line for each image, with the probability of every class, and, where `files` has as many as there
/// are images, its file. Every number is read back as it was.
pub fn predictions(
    names: &[String],
    labels: &[u8],
    predictions: &[Prediction],
    probabilities: &[Vec<f32>],
    files: &[PathBuf],
) -> String {
    let mut text = String::from("image,class,name,predicted,predicted_name,probability");
    (0..names.len()).for_each(|class| text.extend([",p", &class.to_string()]));
    text += if files.is_empty() { "\n" } else { ",file\n" };
    let name = |class: usize| field(&names[class]);
    for (image, (&label, prediction)) in labels.iter().zip(predictions).enumerate() {
        let Prediction { class, probability } = *prediction;
        let of_label = name(label.into());
        // Infallible: a String takes everything.
        let _ = write!(text, "{image},{label},{of_label},{class},{},{probability:?}", name(class));
        for probability in &probabilities[image] {
            let _ = write!(text, ",{probability:?}");
        }
        if let Some(file) = files.get(image) {
            text.extend([",", &field(&file.to_string_lossy())]);
        }
        text.push('\n');
    }
    text
}

/// `confusion.csv`: a line for each true class, a column for each predicted one.
pub fn confusion(names: &[String], confusion: &[Vec<usize>]) -> String {
    let fields = |fields: Vec<String>| fields.join(",") + "\n";
    let header =
        ["true/predicted".to_owned()].into_iter().chain(names.iter().map(|name| field(name)));
    let mut text = fields(header.collect());
    for (name, row) in names.iter().zip(confusion) {
        let counts = row.iter().map(usize::to_string);
        text += &fields([field(name)].into_iter().chain(counts).collect());
    }
    text
}

/// `classes.csv`: a line for each class, then accuracy and averages, which have no number in the first column. Accuracy
/// stands in the column of F1, as scikit-learn prints it.
pub fn classes(names: &[String], found: &Classification) -> String {
    let mut text = String::from("class,name,precision,recall,f1,support\n");
    let line = |class: &str, name: &str, scores: &Scores| {
        let Scores { precision, recall, f1, support } = scores;
        format!("{class},{name},{precision},{recall},{f1},{support}\n")
    };
    for (class, (name, scores)) in names.iter().zip(&found.classes).enumerate() {
        text += &line(&class.to_string(), &field(name), scores);
    }
    text += &format!(",accuracy,,,{},{}\n", found.accuracy, found.images);
    text += &line("", "macro average", &found.averages.macro_average);
    text + &line("", "weighted average", &found.averages.weighted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_as_they_were() {
        let names = ["a,b".to_owned(), "c".to_owned()];
        let values = [f32::MIN_POSITIVE, 1.0 - f32::EPSILON, 0.1, 1.0, 3.4e-9, 0.0];
        let rows: Vec<Vec<f32>> = values.chunks(2).map(<[f32]>::to_vec).collect();
        let answers = [1, 1, 0].map(|class| Prediction { class, probability: 0.1 });
        let text = predictions(&names, &[0, 1, 1], &answers, &rows, &[]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "image,class,name,predicted,predicted_name,probability,p0,p1");
        assert_eq!(lines[1], "0,0,\"a,b\",1,c,0.1,1.1754944e-38,0.9999999");
        let read = lines[1..]
            .iter()
            .flat_map(|line| line.split(',').rev().take(2).collect::<Vec<_>>().into_iter().rev());
        let read: Vec<f32> = read.map(|number| number.parse().unwrap()).collect();
        assert_eq!(read, values);

        let files = ["x.png", "a,b.png", "y.png"].map(PathBuf::from);
        let text = predictions(&names, &[0, 1, 1], &answers, &rows, &files);
        assert!(text.lines().next().unwrap().ends_with(",p0,p1,file"));
        assert!(text.lines().nth(2).unwrap().ends_with(",\"a,b.png\""), "{text}");
    }

    #[test]
    fn the_tables_have_a_line_for_each_class() {
        let answers = [(0, 0.9), (0, 0.8), (1, 0.6)]
            .map(|(class, probability)| Prediction { class, probability });
        let found = Classification::new(&[0, 1, 1], &answers, 2).unwrap();
        let names = ["x".to_owned(), "y,z".to_owned()];
        assert_eq!(
            confusion(&names, &found.confusion),
            "true/predicted,x,\"y,z\"\nx,1,0\n\"y,z\",1,1\n"
        );
        let text = classes(&names, &found);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "0,x,0.5,1,0.6666666666666666,1");
        assert_eq!(lines[2], "1,\"y,z\",1,0.5,0.6666666666666666,2");
        assert_eq!(lines[3], ",accuracy,,,0.6666666666666666,3");
        assert!(lines[4].starts_with(",macro average,0.75,0.75,"), "{text}");
        assert_eq!(lines.len(), 6);
    }
}
