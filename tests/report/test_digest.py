"""The digest of metrics.json: every number beside its baseline, nothing undefined."""

from mdnet.report.digest import Measured, digest


def test_numbers_stand_beside_their_baselines():
    metrics = {
        "studies": 3,
        "aspects": {"grade": {"accuracy": 0.75, "macro_f1": 0.5, "auroc": None}},
        "mean_aspect_accuracy": 0.75,
        "text": {"bleu_4": 0.2, "distinct_share": 0.9},
        "statements": {"true": 0.8, "silent": 0.1, "aspects": {"grade": {"true": 0.8, "contradiction": 0.0}}},
        "retrieval": {
            "images": 3,
            **dict.fromkeys(("recall_at_1", "recall_at_5", "recall_at_10"), 0.5),
            "median_rank": 2.0,
            "mean_reciprocal_rank": 0.6,
            "chance": {
                **dict.fromkeys(("recall_at_1", "recall_at_5", "recall_at_10"), 0.3),
                "median_rank": 2.0,
                "mean_reciprocal_rank": 0.4,
            },
        },
        "grounding": {
            "grade": {
                "evidence": {"high": {"pointing": 0.6, "energy": 0.3, "chance": 0.1, "studies": 3}},
                "attention": {"high": {"pointing": 0.5, "energy": 0.2, "chance": 0.1, "studies": 3}},
            },
            "tissue": {"evidence_share": 0.9, "area": 0.7},
        },
        "likelihood": {"studies": 3, "own_image": -20.0, "other_images": -50.0},
        "comparisons": {"own_minus_other_images": {"difference": 30.0, "low": 20.0, "high": 40.0}},
        "intervals": {
            "aspects.grade.accuracy": [0.6, 0.9],
            "text.bleu_4": [0.15, 0.25],
            "grounding.grade.evidence.high.pointing": [0.5, 0.7],
        },
        "abstention": {
            "below": 0.9,
            "aspects": {"grade": {"coverage": 0.5, "accuracy": None, "accuracy_of_all": 0.75}},
        },
        "out_of_distribution": {"images": 7, "auroc": 1.0, "flagged": 0.9, "flagged_studies": 0.0},
        "baselines": {
            "majority": {"grade": {"class": "low", "accuracy": 0.5}},
            "constant_report": {"bleu_4": 0.1},
            "nearest_neighbour": {"bleu_4": 0.12, "aspects": {"grade": {"accuracy": 0.6}}},
            "class_report": None,
        },
    }
    tables = {
        table.heading: {name: {k: str(v) for k, v in row.items()} for name, row in table.rows.items()}
        for table in digest(metrics)
    }
    assert tables == {
        "Diagnosis and aspects": {
            "grade": {
                "accuracy": "0.750 [0.600, 0.900]",
                "macro F1": "0.500",
                "majority class": "0.500",
                "nearest images": "0.600",
            },
            "mean": {"accuracy": "0.750"},
        },
        "Answers from a probability": {"grade": {"from": "0.900", "coverage": "0.500", "of all": "0.750"}},
        "Report": {
            "model": {"BLEU-4": "0.200 [0.150, 0.250]", "distinct": "0.900"},
            "nearest training image": {"BLEU-4": "0.120"},
            "constant report": {"BLEU-4": "0.100"},
        },
        "What the text states": {
            "grade": {"true class": "0.800", "contradicts": "0.000"},
            "all": {"true class": "0.800", "silent": "0.100"},
        },
        "Report finds its image": {
            "model, 3 images": {
                "recall@1": "0.500",
                "recall@5": "0.500",
                "recall@10": "0.500",
                "median rank": "2.0",
                "MRR": "0.600",
            },
            "chance": {
                "recall@1": "0.300",
                "recall@5": "0.300",
                "recall@10": "0.300",
                "median rank": "2.0",
                "MRR": "0.400",
            },
        },
        "Likelihood of references": {
            "3 studies": {
                "own image": "-20.00",
                "other images": "-50.00",
                "difference": "30.00 [20.00, 40.00]",
            }
        },
        "Where the maps peak": {
            "grade: high": {
                "evidence": "0.600 [0.500, 0.700]",
                "attention": "0.500",
                "chance": "0.100",
                "studies": "3",
            }
        },
        "Share of the maps inside": {
            "grade: high": {"evidence": "0.300", "attention": "0.200", "chance": "0.100", "studies": "3"},
            "tissue": {"evidence": "0.900", "chance": "0.700"},
        },
        "Images of another kind": {
            "7 images": {"AUROC": "1.000", "flagged": "0.900", "studies flagged": "0.000"}
        },
    }


def test_a_table_has_every_column_of_its_rows_once():
    metrics = {"aspects": {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.5, "ece": 0.1}, "c": {"auroc": 0.7}}}
    (table,) = digest(metrics)
    assert table.columns == ("accuracy", "ECE", "AUROC")


def test_zero_has_no_sign():
    assert str(Measured(-1e-9, -0.0004, 0.25)) == "0.000 [0.000, 0.250]"


def test_a_model_without_labels_or_reports_has_no_empty_tables():
    assert digest({"studies": 3, "aspects": {}, "baselines": {}}) == []
