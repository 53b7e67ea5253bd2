// Runs before anything is painted, so that a chosen theme does not flash.
try {
  var theme = localStorage.getItem('theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch (e) {
  // Storage is forbidden: the system's preference applies.
}
