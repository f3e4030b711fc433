"""Which runs are of one recipe, and what tells the others apart."""

from resnet_hub.report.runs import by_recipe


def test_runs_that_differ_in_seed_and_place_alone_are_of_one_recipe(trained):
    runs = [
        trained("a", seed=0),
        trained("b", seed=1, data={"root": "elsewhere", "workers": 3}),
        trained("c", seed=0, optimizer={"lr": 0.5}),
    ]
    first, second = by_recipe(runs)
    assert first.runs == (runs[0], runs[1])
    assert second.runs == (runs[2],)


def test_other_nets_are_told_apart_by_their_names(trained):
    runs = [trained("a"), trained("b", net={"name": "cifar_plain20"}, optimizer={"lr": 0.2})]
    assert [group.label for group in by_recipe(runs)] == ["cifar_resnet20", "cifar_plain20"]


def test_recipes_of_one_net_are_told_apart_by_what_differs(trained):
    runs = [trained("a"), trained("b", optimizer={"lr": 0.2})]
    assert [group.label for group in by_recipe(runs)] == [
        "cifar_resnet20, optimizer.lr 0.1",
        "cifar_resnet20, optimizer.lr 0.2",
    ]


def test_labels_that_would_be_alike_have_the_folder(trained):
    runs = [
        trained(name, optimizer={"lr": lr, "momentum": 0.5 * lr}, schedule={"gamma": gamma})
        for name, lr, gamma in (("a", 0.1, 0.1), ("b", 0.2, 0.1), ("c", 0.2, 0.2))
    ]
    labels = [group.label for group in by_recipe(runs)]
    assert len(set(labels)) == 3
    assert labels[1].endswith(", b")
    assert labels[2].endswith(", c")
