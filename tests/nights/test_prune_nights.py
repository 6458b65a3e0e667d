"""What is deleted on purpose stays deleted: by age and count in the order of training, and never what has a tag."""

from nights_at_work import JOB, Nights, ends, left


def galleries(nights: Nights, job: str = JOB) -> set[str]:
    return {key.split("/")[2] for key in nights.store.list(f"galleries/{job}/") if key.endswith("/index.html")}


def pruned(nights: Nights) -> None:
    """Four checkpoints, the first of which has a tag, pruned to the last one."""
    for step in (1, 2, 3, 4):
        nights.save(f"step_{step}.safetensors", seed=step)
    nights.sidecar("step_1.safetensors", tags=["paper"])
    nights.night()
    assert nights.command("prune", nights.output, "--keep-last", "1", "--yes").code == 0


def test_the_last_checkpoints_of_training_stay_and_those_with_tags_and_their_noise(nights: Nights) -> None:
    pruned(nights)
    stay = [one for one in nights.entries if one.step in (1, 4)]
    assert galleries(nights) == {one.run12 for one in stay}
    assert galleries(nights, f"{JOB}-noise") == {one.noise.run12 for one in stay if one.noise}
    kept = {one.model12 for one in stay}
    assert {key.split("/")[1].partition("@")[2] for key in nights.store.list("units/")} == kept
    # No page leads to what is gone.
    gone = {one.model12 for one in nights.entries} - kept
    pages = [key for key in nights.store.list(f"nights/{JOB}/") if key.endswith(".html")]
    assert pages
    for key in pages:
        assert not any(f"@{model12}/" in (nights.store.read(key) or b"").decode() for model12 in gone), key
    assert nights.command("verify", nights.output).code == 0


def test_no_night_makes_again_what_was_deleted_whatever_it_is_asked(nights: Nights) -> None:
    pruned(nights)
    before = left(nights.store)
    assert nights.run().out == "nothing new\n"
    assert left(nights.store) == before
    again = nights.night("--refresh")
    assert [(one["step"], one["made"]) for one in again["checkpoints"]] == [(4, 0), (1, 0)]
    # Nor where the index was lost: the tombstone says it too.
    for key in nights.listing.entries:
        nights.store.delete(key)
    name = "step_{}.safetensors".format
    assert ends(nights.night()) == {name(4): "done", name(3): "deleted", name(2): "deleted", name(1): "done"}
    assert len(galleries(nights)) == 2


def test_of_each_model_its_own_last_checkpoints_stay(nights: Nights) -> None:
    import yaml

    template = yaml.safe_load(nights.template.read_text())
    model = template["models"][0]
    template["models"] = [model | {"name": "left"}, model | {"name": "right"}]
    nights.template.write_text(yaml.safe_dump(template))
    for source, first in (("left", 1), ("right", 11)):
        for step in range(first, first + 3):
            nights.save(f"{source}/step_{step}.safetensors", seed=step)
    nights.night()
    assert nights.command("prune", nights.output, "--keep-last", "2", "--yes").code == 0
    assert galleries(nights) == {one.run12 for one in nights.entries if one.step in (2, 3, 12, 13)}


def test_a_tag_that_is_given_later_keeps_a_gallery(nights: Nights) -> None:
    for step in (1, 2, 3):
        nights.save(f"step_{step}.safetensors", seed=step)
    nights.night()
    nights.sidecar("step_1.safetensors", tags=["paper"])
    assert nights.run().code == 0
    assert nights.command("prune", nights.output, "--keep-last", "1", "--yes").code == 0
    assert galleries(nights) == {one.run12 for one in nights.entries if one.step in (1, 3)}


def test_what_was_deleted_under_one_recipe_is_not_deleted_under_others(nights: Nights) -> None:
    import yaml

    def recipe(steps: int) -> None:
        template["recipes"] = [{"name": "quick", "extends": "plain", "steps": steps, "precision": "fp32"}]
        nights.template.write_text(yaml.safe_dump(template))

    template = yaml.safe_load(nights.template.read_text())
    nights.save("step_1.safetensors", seed=1)
    for steps in (2, 3):
        recipe(steps)
        nights.night()
    # Of two galleries of the same checkpoint the older goes; the next recipe is for that checkpoint all the same.
    older, newer = (one.run12 for one in sorted(nights.entries, key=lambda one: one.run12 in latest(nights)))
    assert nights.command("prune", nights.output, "--keep-last", "1", "--yes").code == 0
    assert galleries(nights) == {newer}
    recipe(4)
    assert ends(nights.night()) == {"step_1.safetensors": "done"}
    # Under the deleted one it stays deleted, also where the index was lost.
    recipe(2)
    for key in nights.listing.entries:
        nights.store.delete(key)
    assert ends(nights.night()) == {"step_1.safetensors": "deleted"}
    assert older not in galleries(nights)


def latest(nights: Nights) -> str:
    return (nights.store.read(f"galleries/{JOB}/latest.json") or b"").decode()
