// How a script says what became of each feature: one line of JSON, on stdout.

export const URL = process.env.PENSTOCK_URL;
export const KEY = "not-needed";

// Each feature returns nothing if it works, or why it was refused as it should be; it throws if it does not do as it should.
export async function run(features) {
  let failed = false;
  for (const [feature, attempt] of Object.entries(features)) {
    const row = { feature, refused: "", fault: "" };
    try {
      row.refused = (await attempt()) ?? "";
    } catch (error) {
      failed = true;
      console.error(error);
      row.fault = `${error.name}: ${error.message}`;
    }
    console.log(JSON.stringify(row));
  }
  process.exit(failed ? 1 : 0);
}
