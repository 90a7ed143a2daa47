"""The audit as a tool: checks for tests, other forms, inline loops, scripts, and its page."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import benchbench
from benchbench.cli.main import main

PAGE = Path(benchbench.__file__).parent / "gradients" / "README.md"


class Agent:
    """The brief's first loop."""

    def __init__(self):
        torch.manual_seed(0)
        self.encoder, self.critic, self.vae = (nn.Linear(*s) for s in ((4, 4), (4, 1), (4, 2)))
        self.critic_opt = torch.optim.Adam(self.critic.parameters())
        self.vae_opt = torch.optim.Adam([*self.vae.parameters(), *self.encoder.parameters()])

    def update(self):
        critic_loss = self.critic(self.encoder(torch.randn(8, 4))).square().mean()
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()
        vae_loss = self.vae(self.encoder(torch.randn(8, 4))).square().mean()
        self.vae_opt.zero_grad()
        vae_loss.backward()
        self.vae_opt.step()


@pytest.fixture
def audit():
    agent = Agent()
    return benchbench.audit(agent, agent.update)


def test_an_agents_modules_and_optimizers_are_found(audit):
    assert audit.modules == ("encoder", "critic", "vae")
    assert audit.seen.optimizers == ("critic_opt", "vae_opt")
    assert str(audit.seen) == "seen: 2 of 2 losses, 2 of 2 optimizers stepped"
    agent = Agent()
    parts = {"encoder": agent.encoder, "critic": agent.critic, "vae": agent.vae}
    found = benchbench.audit(parts, lambda: agent.update())
    assert len(found.seen.optimizers) == 2  # those alive that hold the parameters


def test_the_routing_may_be_asserted(audit):
    right = {"critic_loss": ["critic"], "vae_loss": ["vae", "encoder"]}
    audit.assert_routing(right)
    with pytest.raises(AssertionError, match="critic_loss should train encoder and does not"):
        audit.assert_routing(right | {"critic_loss": ["encoder", "critic"]})
    with pytest.raises(AssertionError, match=r"vae_loss should not train encoder and does, by vae"):
        audit.assert_routing(right | {"vae_loss": ["vae"]})
    with pytest.raises(AssertionError, match="actor_loss was not seen; seen: critic_loss, vae"):
        audit.assert_routing(right | {"actor_loss": []})
    with pytest.raises(AssertionError, match="there is no module 'actor'"):
        audit.assert_routing(right | {"vae_loss": ["vae", "encoder", "actor"]})
    with pytest.raises(AssertionError, match="vae_loss should not train"):
        audit.assert_routing({"critic_loss": ["critic"]})


def test_untouched_means_not_even_a_dropped_gradient(audit):
    audit.assert_untouched("vae", by="critic_loss")
    with pytest.raises(AssertionError, match=r"critic_loss puts a gradient on encoder .*dropped"):
        audit.assert_untouched("encoder", by="critic_loss")
    with pytest.raises(AssertionError, match="there is no module 'actor'"):
        audit.assert_untouched("actor", by="critic_loss")
    with pytest.raises(AssertionError, match="td_loss was not seen"):
        audit.assert_untouched("vae", by="td_loss")
    with pytest.raises(AssertionError, match="critic_loss puts a gradient on encoder"):
        audit.assert_ok()


def test_a_golden_routing_is_written_once_and_then_held(audit, tmp_path):
    golden = tmp_path / "routing.json"
    with pytest.raises(AssertionError, match="was not there and is written now"):
        audit.assert_routing(golden)
    audit.assert_routing(golden)
    stored = json.loads(golden.read_text())
    assert stored == {"critic_loss": ["critic"], "vae_loss": ["encoder", "vae"]}
    golden.write_text(json.dumps(stored | {"vae_loss": ["vae"]}))
    with pytest.raises(AssertionError, match="vae_loss should not train encoder"):
        audit.assert_routing(golden)


def test_an_audit_as_data_text_and_page(audit, tmp_path):
    data = json.loads(audit.to_json())
    assert data == json.loads(json.dumps(audit.to_dict()))
    assert not data["ok"]
    assert data["warnings"][0]["kind"] == "dropped"
    assert data["moved"]["encoder"] == ["vae_opt"]
    assert "| critic_loss | encoder |" in audit.to_markdown()
    for suffix in (".json", ".md", ".html", ".txt"):
        audit.save(tmp_path / f"audit{suffix}")
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<svg") == 3
    assert "<h1>Gradient audit: not all is well</h1>" in page
    HTMLParser().feed(page)
    with pytest.raises(ValueError, match=r"ends in \.json"):
        audit.save(tmp_path / "audit.pdf")


def test_the_flow_figure_marks_what_is_applied_and_what_is_cleared(audit):
    drawing = audit.flow_svg("encoder")
    assert drawing.count("✕") == 1  # critic_loss's gradient, cleared by vae_opt
    assert drawing.count("▼") == 1
    with pytest.raises(ValueError, match="no module 'actor'"):
        audit.flow_svg("actor")


def test_names_are_escaped_in_the_page():
    net = nn.Linear(4, 1)
    opt = torch.optim.Adam(net.parameters())

    def step():
        opt.zero_grad()
        net(torch.randn(2, 4)).mean().backward()
        opt.step()

    page = benchbench.audit({"<b>net": net}, {"opt": opt}, step).to_html()
    assert "<b>net" not in page
    assert "&lt;b&gt;net" in page


def test_an_inline_loop_is_watched():
    agent, twin = Agent(), Agent()
    torch.manual_seed(1)
    with benchbench.watch(agent) as w:
        for _ in range(3):
            agent.update()
            w.next_step()
        with pytest.raises(ValueError, match="when the with block has ended"):
            _ = w.audit
    assert w.audit.steps == 3
    assert [f.kind for f in w.audit.warnings] == ["dropped"]
    torch.manual_seed(1)
    for _ in range(3):
        twin.update()
    for name in ("encoder", "critic", "vae"):
        for a, b in zip(
            getattr(agent, name).parameters(), getattr(twin, name).parameters(), strict=True
        ):
            assert torch.equal(a, b)


def test_the_summands_are_found_without_a_trace_in_training():
    nets = []
    for audited in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        opt = torch.optim.Adam(net.parameters())

        def step(net=net, opt=opt):
            pi_loss, v_loss = net(torch.randn(8, 4)).mean(), net(torch.randn(8, 4)).square().mean()
            loss = pi_loss + 0.5 * v_loss
            opt.zero_grad()
            loss.backward()
            opt.step()

        if audited:
            audit = benchbench.audit({"net": net}, {"opt": opt}, step)
            terms = next(e.terms for e in audit.events if e.terms)
            assert [(t.name, t.factor) for t in terms] == [("pi_loss", 1.0), ("v_loss", 0.5)]
        else:
            for _ in range(3):
                step()
        nets.append((net, torch.rand(1)))
    assert torch.equal(nets[0][1], nets[1][1])
    weights = (n.state_dict().values() for n, _ in nets)
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


SCRIPT = """
import sys
import torch
from torch import nn

encoder, head = nn.Linear(4, 4), nn.Linear(4, 1)
opt = torch.optim.Adam([*encoder.parameters(), *head.parameters()])
for number in range(int(sys.argv[1])):
    features = encoder(torch.randn(8, 4)){detach}
    head_loss = head(features).square().mean()
    opt.zero_grad()
    head_loss.backward()
    opt.step()
print("all", number + 1, "updates")
"""


def test_a_script_is_run_under_audit_and_stopped(tmp_path):
    script, page = tmp_path / "train.py", tmp_path / "audit.html"
    script.write_text(SCRIPT.format(detach=""))
    command = ["audit", str(script), "--steps", "3", "--output", str(page), "--", "1000"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "step 2 of 3" in result.output
    assert "no warnings" in result.output
    assert "updates" not in result.output  # it was stopped
    assert "<svg" in page.read_text()
    script.write_text(SCRIPT.format(detach=".detach()"))
    result = CliRunner().invoke(main, ["audit", str(script), "--", "4"])
    assert result.exit_code == 1
    assert "opt holds encoder, and no loss reaches it" in result.output
    result = CliRunner().invoke(main, ["audit", str(script), "--", "1"])
    assert result.exit_code == 1  # one step is not enough to know, and it ran to its end
    assert "all 1 updates" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "there is no such script"),
        (["{script}", "--variant", "before"], "are for suites"),
        (["{script}", "--output", "x.gif"], "ends in .html"),
        (["{script}"], "ZeroDivisionError"),
        (["suite.yaml", "--output", "x.html"], "name a script"),
    ],
)
def test_mistakes_with_scripts_are_told_without_a_traceback(arguments, words, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("1 / 0\n")
    given = [a.format(script=script) for a in arguments]
    result = CliRunner().invoke(main, ["audit", *given])
    assert result.exit_code == 2, result.output
    assert words in result.output


def test_every_story_of_the_page_is_as_it_is_told():
    """Each snippet runs, and prints the line that stands under it."""
    blocks = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for code, printed in blocks:
        torch.manual_seed(0)
        room = {"torch": torch, "nn": nn, "benchbench": benchbench, "copy": copy}
        out = []
        exec(code, room | {"print": lambda *a, out=out: out.append(" ".join(map(str, a)))})
        assert " ".join(" ".join(out).split()) == " ".join(printed.split())
