// Finds the sections that hold every word, those with the words in their titles first.
(() => {
  const box = document.getElementById('words'), found = document.getElementById('found'), up = document.body.dataset.up;
  const look = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(w => w.length > 1);
    found.hidden = words.length === 0;
    found.replaceChildren();
    if (found.hidden) return;
    const hits = [];
    for (const s of index) {
      const title = (s.p + ' ' + s.t).toLowerCase(), text = s.x.toLowerCase();
      let score = 0;
      for (const w of words) {
        if (title.includes(w)) score += 10;
        else if (text.includes(w)) score += 1;
        else { score = 0; break; }
      }
      if (score) hits.push([score, s]);
    }
    hits.sort((a, b) => b[0] - a[0]);
    const head = document.createElement('h2');
    head.textContent = hits.length === 0 ? 'Nothing holds all of these words' : hits.length > 30 ? 'The first 30 of ' + hits.length : hits.length + ' found';
    found.append(head);
    for (const [, s] of hits.slice(0, 30)) {
      const p = document.createElement('p'), a = document.createElement('a'), small = document.createElement('small');
      a.href = up + s.u;
      a.textContent = s.p === s.t ? s.t : s.p + ': ' + s.t;
      const at = Math.max(0, s.x.toLowerCase().indexOf(words[0]) - 60);
      small.textContent = (at > 0 ? '… ' : '') + s.x.slice(at, at + 180);
      p.append(a, document.createElement('br'), small);
      found.append(p);
    }
  };
  box.addEventListener('input', look);
  document.getElementById('search').addEventListener('submit', e => { e.preventDefault(); look(); });
  const asked = new URLSearchParams(location.search).get('q');
  if (asked) { box.value = asked; look(); }
})();
