#include <fmt/format.h>

#include <array>

#include "report/page_assets.h"

namespace switchyard::report {
namespace {

struct Colour {
  std::string_view name, light, dark;
};

constexpr std::array<Colour, 23> kColours = {{
    {"page", "#f6f6f3", "#121211"},   {"card", "#ffffff", "#1b1b1a"},  {"ink", "#1a1a18", "#edece7"},  {"ink2", "#55544f", "#b9b8b0"},
    {"ink3", "#73726b", "#93928a"},   {"rule", "#e2e1db", "#353431"},  {"grid", "#ecebe6", "#2b2a28"}, {"axis", "#b5b4ac", "#5d5c56"},
    {"accent", "#2166c2", "#7db2f5"}, {"warn", "#a8480f", "#f0a06a"},  {"high", "#e5762a", "#c25d1a"}, {"low", "#4a8fdb", "#2f70b8"},
    {"na", "#d9d8d2", "#3a3936"},     {"chip", "#efeee9", "#2a2a28"},  {"good", "#1d7a4f", "#6fcf9d"}, {"s0", "#2166c2", "#6aa6f2"},
    {"s1", "#cf4f14", "#f08c55"},     {"s2", "#0b8065", "#3fc3a0"},    {"s3", "#7a4fc0", "#b08df0"},   {"s4", "#bd2f74", "#f07ab0"},
    {"s5", "#8a6900", "#d9b03a"},     {"s6", "#1d84a3", "#5cc5e0"},    {"s7", "#66655f", "#a8a7a1"},
}};

constexpr std::string_view kChartRules = R"css(
.chart text{font:12px -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink2)}
.chart .tick{fill:var(--ink3);font-variant-numeric:tabular-nums}
.chart .ink{fill:var(--ink)}
.chart .title{font-size:17px;font-weight:600;fill:var(--ink)}
.chart .mid{text-anchor:middle}
.chart .end{text-anchor:end}
.chart .grid{stroke:var(--grid);fill:none}
.chart .axis{stroke:var(--axis);fill:none}
.chart .line{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
.chart .thick .line{stroke-width:2.2}
.chart .faint .line{stroke-width:1;opacity:.38}
.chart .dashed .line{stroke-dasharray:6 4}
.chart .err{stroke-width:1.4}
.chart .dot{stroke:var(--card);stroke-width:1.2}
.chart .band{opacity:.18}
.chart .endlabel{font-weight:600}
.chart .ref{stroke:var(--ink3);stroke-dasharray:4 3;fill:none}
.chart .reflabel{fill:var(--ink2);paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.chart .hit rect{fill:transparent}
.chart .hit path{stroke:var(--ink2);fill:none;opacity:0}
.chart .hit:hover path{opacity:.55}
.chart .share{stroke:var(--card);stroke-width:.7}
.chart .share:hover,.chart .cell:hover rect{stroke:var(--ink);stroke-width:1.5}
.chart .uniform{stroke:var(--card);stroke-dasharray:3 3;stroke-width:1.4;fill:none;pointer-events:none}
.chart .high{fill:var(--high)}
.chart .low{fill:var(--low)}
.chart .na{fill:var(--na)}
.chart .cell rect{stroke:var(--grid);stroke-width:.6}
.chart .border{fill:none;stroke:var(--rule)}
.chart .own .line,.chart .own .err{stroke:var(--c)}
.chart .own .dot{fill:var(--c)}
)css";

constexpr std::string_view kPageRules = R"css(
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%;scroll-behavior:smooth;scroll-padding-top:4rem}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer,nav{max-width:1128px;margin:0 auto;padding:0 24px}
header{padding-top:40px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px;overflow-wrap:anywhere}
h2{font-size:21px;line-height:1.3;letter-spacing:-.01em;margin:52px 0 12px}
h3{font-size:14px;font-weight:600;line-height:1.4;margin:0 0 2px}
p{margin:0 0 12px;max-width:74ch}
a{color:var(--accent)}
code,pre,kbd{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
.kicker{color:var(--ink3);font-size:13px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;margin:0 0 6px}
.sub{color:var(--ink2);margin:0 0 20px;overflow-wrap:anywhere}
.lead{color:var(--ink2);margin:-8px 0 16px}
.note{color:var(--ink3);font-size:13px;line-height:1.45;margin:6px 0 0;max-width:none}
nav ul{display:flex;flex-wrap:wrap;gap:4px 20px;list-style:none;margin:18px 0 0;padding:10px 0;border-block:1px solid var(--rule);font-size:14px}
nav a{color:var(--ink2);text-decoration:none}
nav a:hover,nav a:focus-visible{color:var(--accent);text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:1px;background:var(--rule);border:1px solid var(--rule);border-radius:10px;overflow:hidden}
.tile{background:var(--card);padding:14px 16px 12px}
.tile .label{color:var(--ink2);font-size:13px;line-height:1.3}
.tile .value{font-size:27px;line-height:1.25;font-weight:600;letter-spacing:-.02em;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile .value small{font-size:14px;font-weight:500;letter-spacing:0;color:var(--ink2)}
.tile .extra{color:var(--ink3);font-size:12.5px;line-height:1.35}
.findings{list-style:none;margin:20px 0 0;padding:0;display:grid;gap:6px}
.findings li{display:grid;grid-template-columns:20px 1fr;gap:8px;max-width:92ch}
.findings .mark{font-weight:700;text-align:center}
.findings .good .mark{color:var(--good)}
.findings .warn .mark{color:var(--warn)}
.findings .info .mark{color:var(--ink3);font-weight:400}
.grid3,.grid4{display:grid;gap:20px;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
.grid4{gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,236px),1fr))}
.grid3>.card,.grid4>.card{display:flex;flex-direction:column}
.grid3>.card>.chart,.grid4>.card>.chart{margin-top:auto}
.grid4>.card{padding:12px 12px}
.grid4 .chart{max-width:300px}
section>.card+.card,.below{margin-top:20px}
.split{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:20px}
.pair{display:flex;flex-wrap:wrap;gap:20px}
.pair .card{flex:1 1 420px;min-width:0}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;min-width:0;break-inside:avoid}
.card .about{color:var(--ink3);font-size:13px;line-height:1.4;margin:0 0 8px;max-width:none}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart.matrix{width:auto;max-width:100%}
.chart.scale{width:auto;margin:10px 0}
.scroll{overflow-x:auto;overscroll-behavior-x:contain;padding-bottom:4px}
.scroll .chart.large{max-width:none}
.narrow{display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 8px;padding:0;list-style:none;font-size:13px;color:var(--ink2)}
.legend li{display:flex;align-items:center;gap:6px}
.legend i,.chip{display:inline-block;width:12px;height:12px;border-radius:3px;flex:none;background:var(--c)}
.legend i.dash{width:20px;height:3px;border-radius:2px}
.legend i.faint{opacity:.4}
.missing{color:var(--ink3);border:1px dashed var(--axis);border-radius:10px;padding:14px 16px;max-width:none;font-size:14px}
.bar{position:sticky;top:0;z-index:5;background:var(--page);padding:10px 0;margin:8px 0 10px;display:flex;flex-wrap:wrap;gap:6px 16px;align-items:center}
.choose{display:flex;gap:4px;align-items:center;overflow-x:auto;max-width:100%;font-size:14px}
.choose span{color:var(--ink2);margin-right:4px}
button{font:inherit;font-size:13px;line-height:1.3;color:var(--ink);background:var(--card);border:1px solid var(--rule);border-radius:999px;padding:5px 12px;cursor:pointer;white-space:nowrap}
button:hover{border-color:var(--ink3)}
button[aria-pressed=true]{background:var(--ink);border-color:var(--ink);color:var(--page)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.experts{display:flex;flex-wrap:wrap;gap:6px;margin:0 0 12px}
.experts>*{border:1px solid var(--rule);background:var(--card);font-size:13px;line-height:1.3;display:flex;align-items:center;gap:6px;padding:3px 10px 3px 6px;border-radius:6px;font-variant-numeric:tabular-nums}
.experts small{color:var(--ink3)}
.experts button[aria-pressed=true] small{color:inherit}
.controls{display:flex;flex-wrap:wrap;gap:8px 24px;align-items:center;margin:0 0 14px}
.switch{font-size:14px;color:var(--ink2);display:flex;gap:7px;align-items:center}
.passage{font:17px/2 Georgia,"Liberation Serif","Times New Roman",serif;white-space:pre-wrap;overflow-wrap:anywhere;max-width:none;columns:25rem 2;column-gap:44px}
.excerpt{display:block;font:600 13px/1.4 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:var(--ink2);margin:18px 0 6px;break-after:avoid}
.excerpt:first-child{margin-top:0}
.tok{background:rgb(var(--e)/.3);box-shadow:inset 0 -3px rgb(var(--e));border-radius:2px;padding:2px 0;margin-right:1px;transition:opacity .12s;cursor:default}
.tok.none{background:none;box-shadow:inset 0 -2px var(--axis)}
.tok:hover,.tok:focus{outline:2px solid var(--ink);outline-offset:0}
.passage.picking .tok{opacity:.22}
.passage.picking .tok.picked{opacity:1}
.ws{color:var(--ink3);font-family:ui-monospace,monospace;font-size:.8em}
.card:has(#numbers:checked) .tok::after{content:attr(data-e);font:600 10px/1 Arial,sans-serif;vertical-align:super;color:var(--ink2);padding:0 1px}
.tip{position:fixed;z-index:20;left:0;top:0;max-width:min(320px,92vw);pointer-events:none;background:var(--ink);color:var(--page);border-radius:8px;padding:8px 11px;font-size:13px;line-height:1.45;box-shadow:0 6px 24px rgb(0 0 0/.28);font-variant-numeric:tabular-nums}
.tip b{display:block;overflow-wrap:anywhere;white-space:pre-wrap}
.tip .row{display:grid;grid-template-columns:minmax(70px,auto) 1fr;gap:0 14px}
.tip .row>:last-child{text-align:right}
.tip .pick{display:grid;grid-template-columns:12px auto 80px auto;gap:8px;align-items:center}
.tip .pick i{height:6px;border-radius:3px;background:rgb(128 128 128/.35);display:block;overflow:hidden}
.tip .pick i i{background:rgb(var(--e));border-radius:0}
.tip .chip{background:rgb(var(--e))}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:6px 14px 6px 0;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--ink2);font-weight:600;font-size:13px}
tr:last-child td,tbody tr:last-child th{border-bottom:0}
.facts th{width:36%}
tr.sum td{font-weight:600;border-top:1px solid var(--axis)}
th.n,td.n{text-align:right;overflow-wrap:normal;white-space:nowrap}
th.n:last-child,td.n:last-child{padding-right:0}
td small{display:block;color:var(--ink3)}
td .meter{display:block;height:6px;border-radius:3px;background:var(--chip);min-width:60px;margin-top:7px;overflow:hidden}
td .meter i{display:block;height:100%;background:var(--s0)}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
details summary{cursor:pointer;font-size:14px;font-weight:600}
details pre{margin-top:10px}
pre.sample{font:16px/1.65 Georgia,"Liberation Serif","Times New Roman",serif}
pre.command{background:var(--chip);border-radius:8px;padding:10px 12px;margin:0 0 14px}
footer{color:var(--ink3);font-size:13px;padding-top:40px;padding-bottom:48px}
@media (max-width:820px){
.split{grid-template-columns:minmax(0,1fr)}
.split>.card:last-child>.chart{max-width:460px}
}
@media (max-width:600px){
.wide{display:none}
.narrow{display:block}
}
@media (max-width:560px){
main,header,footer,nav{padding-left:14px;padding-right:14px}
header{padding-top:24px}
h1{font-size:25px}
h2{margin-top:40px}
.tiles{grid-template-columns:1fr 1fr}
.passage{font-size:16px}
.tile .value{font-size:22px}
.card{padding:12px 12px}
}
@media print{
html{scroll-behavior:auto}
body{font-size:11pt;background:none}
.split{grid-template-columns:minmax(0,1fr)}
.split>.card:last-child>.chart{max-width:460px}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
nav,.bar button[aria-pressed=false],.controls,.tip{display:none}
.bar{position:static}
main,header,footer{max-width:none;padding-left:0;padding-right:0}
h2{break-after:avoid;margin-top:26px}
.grid3,.grid4{grid-template-columns:1fr 1fr}
.passage{columns:2}
}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}.tok{transition:none}}
)css";

std::string properties(std::string_view Colour::*value) {
  std::string out;
  for (const Colour& c : kColours) out += fmt::format("--{}:{};", c.name, c.*value);
  return out;
}

}  // namespace

std::string chart_css() {
  std::string out(kChartRules);
  for (int i = 0; i < kNumSeriesColours; ++i)
    out += fmt::format(
        ".chart .s{0} .line,.chart .s{0} .err{{stroke:var(--s{0})}}.chart .s{0} .dot,.chart .band.s{0},.chart .endlabel.s{0}{{fill:var(--s{0})}}\n", i);
  return out;
}

std::string page_css() {
  return fmt::format(":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}.tok{{background:rgb(var(--e)/.5)}}}}\n",
                     properties(&Colour::light), properties(&Colour::dark)) +
         std::string(kPageRules) + chart_css();
}

std::string light_colours(std::string text) {
  for (const Colour& c : kColours) {
    const std::string name = fmt::format("var(--{})", c.name);
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + c.light.size())) text.replace(at, name.size(), c.light);
  }
  return text;
}

}  // namespace switchyard::report
