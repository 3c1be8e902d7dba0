"""The commands' names in other languages: whoever types `/发布 pay prod` means `/deploy pay prod`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bot.commanding import Command

CHINESE: Mapping[str, tuple[str, ...]] = {
    "deploy": ("发布", "部署", "上线"),
    "build": ("构建",),
    "promote": ("晋级", "晋升"),
    "rollback": ("回滚", "回退"),
    "status": ("状态",),
    "history": ("历史", "记录"),
    "why": ("为什么", "原因"),
    "where": ("在哪", "版本"),
    "diff": ("差异", "对比"),
    "approve": ("批准", "同意"),
    "reject": ("拒绝", "驳回"),
    "cancel": ("取消",),
    "continue": ("继续",),
    "abort": ("中止", "终止"),
    "logs": ("日志",),
    "owners": ("负责人",),
    "queue": ("队列", "排队"),
    "jobs": ("定时任务",),
    "report": ("报告", "周报"),
    "train": ("发布列车", "批量发布"),
    "lock": ("锁定", "加锁"),
    "unlock": ("解锁",),
    "locks": ("锁列表",),
    "windows": ("窗口", "发布窗口"),
    "freeze": ("封网", "冻结"),
    "unfreeze": ("解封", "解冻"),
    "review": ("复盘",),
    "reviews": ("复盘列表",),
    "whoami": ("我是谁",),
    "help": ("帮助",),
}


def with_aliases(*commands: Command) -> tuple[Command, ...]:
    """The commands, in their order, answering to these names too."""
    return tuple(replace(one, aliases=(*one.aliases, *CHINESE.get(one.name, ()))) for one in commands)
