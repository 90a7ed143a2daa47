"""The page's own phrases in Chinese: its lead, overview, tasks and files."""

from __future__ import annotations

PAGE: dict[str, str] = {
    "Which loss should train the image encoder that the networks of an offline RL agent share: the "
    "critic's, as in `after`, or the action VAE's, as in `before`, where the critic's gradient is "
    "wiped before it is used?":
        "离线强化学习智能体的各网络共用一个图像编码器，应由哪个损失来训练它：critic 的（`after`），还是动作 VAE 的"
        "（`before`，critic 的梯度在使用之前就被清除）？",
    "What changes where the image encoder of an offline RL agent is trained as in `{of}` rather than "
    "as in `{against}`?":
        "离线强化学习智能体的图像编码器按 `{of}` 而不是按 `{against}` 训练，会有什么变化？",
    "Does `{of}` score otherwise than `{against}`?": "`{of}` 的得分与 `{against}` 不同吗？",
    "figure": "图",
    "show": "展开",
    "unfold all": "全部展开",
    "fold all": "全部折叠",
    "All verdicts at a glance": "结论一览",
    "From features to Q to score": "从特征到 Q 再到得分",
    "A dot a pair: its differences in the state probe, in the error of Q and in the final score "
    "against each other. ρ: Spearman's, of ranks within each environment and condition, p by "
    "permutation within them, unadjusted. A chain of causes would leave such correlations; they do "
    "not prove one.":
        "每点为一对：其状态探针、Q 误差与最终得分之差两两相对。ρ 为 Spearman 秩相关，秩在各环境与条件之内计算，"
        "p 由其内置换得出，未经校正。因果链会留下这样的相关，但相关不能证明因果链。",
    "Each measured difference over the smallest effect of interest, delta, which was fixed "
    "beforehand; right is the claimed direction where there is one. Bold: the mean over the "
    "environments. Grey band: within delta of zero. Bars are intervals that hold together at 95 %; "
    "an arrow marks one that goes on. Linear around zero, logarithmic beyond. Inconclusive: the data allow both no "
    "effect and one of delta. Shown, size open: there is an effect, which may be below delta.":
        "各实测差值除以事先固定的最小关注效应 delta；有论断时，右侧为论断的方向。粗体：各环境的均值。灰带：距零不超过 "
        "delta。横线为合计 95 % 成立的区间，箭头表示区间更长。零附近为线性刻度，其外为对数刻度。尚无定论："
        "数据既容许没有效应，也容许 delta 大小的效应。已证实，大小未定：效应存在，但可能小于 delta。",
    "← against the claim": "← 与论断相反",
    "as claimed →": "与论断一致 →",
    "At the spread seen so far, an effect of delta would be shown with 80 % power by this many "
    "pairs (seeds) in one environment:":
        "按目前的离散程度，以 80 % 的功效证实 delta 大小的效应，在一个环境中所需的对数（种子数）：",
    "**{measure}**: {least} ({env}); {there} so far":
        "**{measure}**：{least}（{env}）；现有 {there}",
    "**{measure}**: from {least} ({env}) to {most} ({other}); {there} so far":
        "**{measure}**：从 {least}（{env}）到 {most}（{other}）；现有 {there}",
    "Fewer pairs than in another row: an earlier look had decided the claim, and it stays as that look "
    "left it.": "对数少于其他行：该论断在较早的一次查看时已得出结论，并保持不变。",
    "How to read it": "如何阅读",
    "What these pairs can show": "这些配对能证实什么",
    "This table began the project (its brief): seven claims about what changes once the critic's "
    "gradient reaches the encoder. What is claimed stands in italics, what was measured below it.":
        "本项目由此表（即“原文”）开始：critic 的梯度到达编码器之后会发生的七项变化。斜体为原文所称，其下为实测值。",
    "{measure}: inconclusive in spite of its adjusted p of {p}, because its interval holds zero; a "
    "verdict needs both.":
        "{measure}：校正后的 p 为 {p}，但区间包含零，因此尚无定论；得出结论需两者兼备。",
    "The tasks": "任务",
    "Frames of one episode of its data, from left to right.": "其数据中一个回合的画面，从左到右。",
    "The same frames with the distractions laid over them.": "同样的画面，叠加干扰之后。",
    "{variants} from the same start, seed {seed}.": "{variants} 从同一起点出发，种子 {seed}。",
    "data": "数据",
    "rows": "行数",
    "episodes": "回合数",
    "action columns": "动作维数",
    "frame": "画面",
    "return of an episode": "回合的回报",
    "Files, and how to cite": "文件与引用",
    "the suite, every setting": "套件及全部设置",
    "the verdicts, as a table": "结论的表格",
    "every pair's values": "每一对的数值",
    "the other measures": "其他度量",
    "one row a cell": "每个单元一行",
    "one row an evaluation: scores, probes, errors": "每次评估一行：得分、探针、误差",
    "losses and gradient norms": "损失与梯度范数",
    "what became of each gradient": "各梯度的去向",
    "Figures are in `figures/`, also as SVG and, with `--format pdf`, as PDF.":
        "图在 `figures/` 中，另有 SVG；加 `--format pdf` 时还有 PDF。",
}  # fmt: skip
"""Joined to :data:`benchbench.report.chinese.PHRASES`."""
