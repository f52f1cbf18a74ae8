"""The digest of metrics.json: every number beside its baseline, nothing undefined."""

from mdnet.report.digest import digest


def test_numbers_stand_beside_their_baselines():
    metrics = {
        "studies": 3,
        "aspects": {"grade": {"accuracy": 0.75, "macro_f1": 0.5, "auroc": None}},
        "mean_aspect_accuracy": 0.75,
        "text": {"bleu_4": 0.2, "distinct_share": 0.9},
        "statements": {"true": 0.8, "sections": {"grade": 0.8}},
        "grounding": {
            "grade": {
                "evidence": {"high": {"pointing": 0.6, "chance": 0.1}},
                "attention": {"high": {"pointing": 0.5, "chance": 0.1}},
            },
            "tissue": {"evidence_share": 0.9, "area": 0.7},
        },
        "baselines": {
            "majority": {"grade": {"class": "low", "accuracy": 0.5}},
            "constant_report": {"bleu_4": 0.1},
        },
    }
    assert digest(metrics) == {
        "Diagnosis and aspects": {
            "grade": {"accuracy": 0.75, "macro F1": 0.5, "majority class": 0.5},
            "mean": {"accuracy": 0.75},
        },
        "Report": {
            "BLEU-4": {"model": 0.2, "constant report": 0.1},
            "share of distinct reports": {"model": 0.9},
        },
        "What the sections state": {"grade": {"true class": 0.8}, "all": {"true class": 0.8}},
        "Where the maps peak": {
            "grade: high": {
                "evidence in mask": 0.6,
                "attention in mask": 0.5,
                "mask's share of the area": 0.1,
            }
        },
    }


def test_a_model_without_labels_or_reports_has_no_empty_tables():
    assert digest({"studies": 3, "aspects": {}, "baselines": {}}) == {}
