// Example problems, easy to hard.

export const PROBLEMS = [
  ["A sum", "What is 4821 + 967 + 38 + 7254?"],
  [
    "Rolls",
    "A baker fills 12 trays with 18 rolls each. By noon 175 rolls are sold. How many are left?",
  ],
  ["A linear equation", "Solve for $x$: $3(x - 4) = 2x + 7$."],
  ["Divisors", "How many positive divisors does $360$ have?"],
  [
    "Two dice",
    "Two fair dice are rolled. What is the probability that the product of the two numbers is a multiple of $6$?",
  ],
  ["A large power", "Find the remainder when $7^{2026}$ is divided by $100$."],
  [
    "Divisible by seven",
    "For how many integers $n$ with $1 \\le n \\le 1000$ is $n^2 + n + 1$ divisible by $7$?",
  ],
  [
    "Roots of a cubic",
    "Let $a$, $b$, $c$ be the roots of $x^3 - 4x^2 + x + 5 = 0$. Find $a^3 + b^3 + c^3$.",
  ],
];

/** Those that the first screen offers: an easy, a medium and a hard one. */
export const FIRST = [1, 4, 7];
