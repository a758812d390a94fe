//! Every benefit that the register knows, in one list: the ids that contracts name.
//!
//! Ids are Kela's English names in kebab case. Amounts are of 2026, in cents: a month's, or for a reimbursement one
//! payment's. Where a source is named, the bound is the law's or Kela's own figure; the other bounds are approximations
//! that only have to look right, and earlier years are derived from them. None of it may be used to decide anything
//! about anybody.
//!
//! Sources, read in November 2026: [Index] Kela, press release of 14 October 2025 on the National Pensions Index for
//! 2026; [2026] Kela, "Changes to Kela benefits in 2026"; [Days] kela.fi/payment-dates.

use std::ops::RangeInclusive;

use airut_domain::matter::Category;

use crate::calendar::PayDay;

/// A benefit, or what else Kela decides about.
#[derive(Debug)]
pub struct Benefit {
    /// What contracts, questions and answers call it.
    pub id: &'static str,
    /// Its English name.
    pub english: &'static str,
    /// Its Finnish name.
    pub finnish: &'static str,
    /// Its Swedish name.
    pub swedish: &'static str,
    /// What there can be to know about it.
    pub categories: &'static [Category],
    /// The amount a month, or of one reimbursement, in cents of 2026; 0 for an insurance.
    pub cents: RangeInclusive<i64>,
    pub(crate) form: Form,
    pub(crate) rise: Rise,
    /// What is withheld for tax, in per cent.
    pub(crate) withheld: RangeInclusive<i32>,
}

/// How a benefit is decided and paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Paid every month of a decision's period.
    Monthly(PayDay, Decided),
    /// Granted for months, and paid by somebody else.
    Guarantee,
    /// Paid once for each application.
    Once,
    /// A time of being insured.
    Insurance,
}

/// How often a monthly benefit is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// For the whole time.
    Once,
    /// For this many months; then it is applied for again.
    Every(u8),
    /// For the calendar year; then it is revised without being applied for.
    Yearly,
}

/// How amounts have risen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rise {
    /// With the National Pensions Index.
    Index,
    /// Not since 2023: frozen from 2024 to 2027 [Index], or bound to no index.
    None,
}

impl Benefit {
    /// What an amount of 2026 was in another year.
    pub(crate) fn cents_in(&self, year: i32, cents: i64) -> i64 {
        match self.rise {
            Rise::Index => cents * national_pensions_index(year) / national_pensions_index(2026),
            Rise::None => cents,
        }
    }
}

/// The index's score [Index]; the nearest known one for other years.
const fn national_pensions_index(year: i32) -> i64 {
    match year {
        ..=2023 => 1805,
        2024 => 1911,
        2025 => 1930,
        2026.. => 1939,
    }
}

/// The annual maximum limit on out-of-pocket medicine costs, in cents: the law's for 2023 to 2026; for other years the
/// nearest of those.
pub const fn medicine_cost_limit(year: i32) -> i64 {
    match year {
        ..=2023 => 59_216,
        2024 => 62_694,
        2025 => 63_317,
        2026.. => 63_612,
    }
}

/// The benefit of this id.
pub fn find(id: &str) -> Option<&'static Benefit> {
    ALL.iter().copied().find(|benefit| benefit.id == id)
}

use Category::{Decision, Insurance, MedicineCostCap, Payment, Pending, Recovery};
use Decided::{Every, Yearly};
use Form::{Guarantee, Monthly};
use PayDay::{Arrears, BySurname, Day, FirstBankingDay, LastBankingDay};

/// A benefit a line: names in English, Finnish and Swedish; categories; amounts; form; rise; tax.
macro_rules! benefits {
    ($($(#[$doc:meta])* $name:ident = $id:literal: $english:literal, $finnish:literal, $swedish:literal;
        $categories:ident, $cents:expr, $form:expr, $rise:ident, tax $withheld:expr;)*) => {
        $($(#[$doc])*
        pub(crate) static $name: Benefit = Benefit {
            id: $id,
            english: $english,
            finnish: $finnish,
            swedish: $swedish,
            categories: $categories,
            cents: $cents,
            form: $form,
            rise: Rise::$rise,
            withheld: $withheld,
        };)*

        /// All of them.
        pub static ALL: &[&Benefit] = &[$(&$name,)*];
    };
}

const PAID: &[Category] = &[Pending, Decision, Payment, Recovery];
const GUARANTEED: &[Category] = &[Pending, Decision];
const REIMBURSED: &[Category] = &[Pending, Decision, Payment];
const MEDICINE: &[Category] = &[Pending, Decision, Payment, MedicineCostCap];
const INSURED: &[Category] = &[Insurance];

benefits! {
    // Social assistance and housing.

    /// The basic amount of a person living alone is 578.43 € since March 2026 [2026]; housing costs are added and
    /// income is taken off. Paid on the first banking day [Days].
    BASIC_SOCIAL_ASSISTANCE = "basic-social-assistance":
        "Basic social assistance", "Perustoimeentulotuki", "Grundläggande utkomststöd";
        PAID, 12_000..=115_000, Monthly(FirstBankingDay, Every(2)), Index, tax 0..=0;
    /// Reviewed yearly; paid on the first banking day [Days].
    GENERAL_HOUSING_ALLOWANCE = "general-housing-allowance":
        "General housing allowance", "Yleinen asumistuki", "Allmänt bostadsbidrag";
        PAID, 8_000..=45_000, Monthly(FirstBankingDay, Every(12)), None, tax 0..=0;
    /// Paid on the 4th [Days].
    HOUSING_ALLOWANCE_FOR_PENSIONERS = "housing-allowance-for-pensioners":
        "Housing allowance for pensioners", "Eläkkeensaajan asumistuki", "Bostadsbidrag för pensionstagare";
        PAID, 6_000..=55_000, Monthly(Day(4), Every(24)), None, tax 0..=0;

    // Unemployment. 37.21 € a day is about 800 € a month [2026]; paid by four weeks, here by the month.

    /// Replaced by the general social security benefit in May 2026 [2026].
    LABOUR_MARKET_SUBSIDY = "labour-market-subsidy":
        "Labour market subsidy", "Työmarkkinatuki", "Arbetsmarknadsstöd";
        PAID, 35_000..=80_000, Monthly(Arrears, Decided::Once), None, tax 15..=25;
    /// Replaced by the general social security benefit in May 2026 [2026].
    BASIC_UNEMPLOYMENT_ALLOWANCE = "basic-unemployment-allowance":
        "Basic unemployment allowance", "Peruspäiväraha", "Grunddagpenning";
        PAID, 60_000..=80_000, Monthly(Arrears, Decided::Once), None, tax 15..=25;
    /// From May 2026 [2026].
    GENERAL_SOCIAL_SECURITY_BENEFIT = "general-social-security-benefit":
        "General social security benefit", "Yleistuki", "Allmänt stöd";
        PAID, 35_000..=80_000, Monthly(Arrears, Decided::Once), None, tax 15..=25;

    // Pensions. Kela's national pension is small or nothing beside an earnings-related one. The register keeps a full
    // national pension under its own name, and what is paid beside an earnings-related pension under the kind of
    // pension.

    /// The full amount of a person living alone is about 787 €: 2025's with the rise of 0.5 % [Index]. Paid on the 7th
    /// [Days].
    NATIONAL_PENSION = "national-pension":
        "National pension", "Kansaneläke", "Folkpension";
        PAID, 65_000..=78_706, Monthly(Day(7), Yearly), Index, tax 0..=0;
    /// Paid on the 7th [Days].
    OLD_AGE_PENSION = "old-age-pension":
        "Old-age pension", "Vanhuuseläke", "Ålderspension";
        PAID, 3_000..=45_000, Monthly(Day(7), Yearly), Index, tax 0..=15;
    /// Paid on the 7th [Days].
    EARLY_OLD_AGE_PENSION = "early-old-age-pension":
        "Early old-age pension", "Varhennettu vanhuuseläke", "Förtida ålderspension";
        PAID, 3_000..=40_000, Monthly(Day(7), Yearly), Index, tax 0..=15;
    /// Paid on the 7th [Days].
    DISABILITY_PENSION = "disability-pension":
        "Disability pension", "Työkyvyttömyyseläke", "Sjukpension";
        PAID, 10_000..=78_706, Monthly(Day(7), Yearly), Index, tax 0..=10;
    /// Fills other pensions up to about 991 €: 2025's 986.30 € with the rise of 0.5 % [Index]. Paid on the 22nd [Days].
    GUARANTEE_PENSION = "guarantee-pension":
        "Guarantee pension", "Takuueläke", "Garantipension";
        PAID, 2_000..=33_000, Monthly(Day(22), Yearly), Index, tax 0..=0;
    /// Paid by the surname's initial [Days].
    SURVIVORS_PENSION = "survivors-pension":
        "Survivors' pension", "Perhe-eläke", "Familjepension";
        PAID, 11_000..=45_000, Monthly(BySurname, Yearly), Index, tax 0..=15;

    // Sickness, rehabilitation and disability. Daily allowances are paid by 25 working days, here by the month.

    /// From the minimum of 31.99 € a working day.
    SICKNESS_ALLOWANCE = "sickness-allowance":
        "Sickness allowance", "Sairauspäiväraha", "Sjukdagpenning";
        PAID, 79_975..=260_000, Monthly(Arrears, Every(3)), None, tax 15..=35;
    /// From the same minimum.
    REHABILITATION_ALLOWANCE = "rehabilitation-allowance":
        "Rehabilitation allowance", "Kuntoutusraha", "Rehabiliteringspenning";
        PAID, 79_975..=240_000, Monthly(Arrears, Decided::Once), None, tax 15..=35;
    /// In three grades. Paid on the 7th [Days].
    DISABILITY_ALLOWANCE_FOR_ADULTS = "disability-allowance-for-adults":
        "Disability allowance for persons aged 16 years or over", "16 vuotta täyttäneen vammaistuki",
        "Handikappbidrag för personer som fyllt 16 år";
        PAID, 10_900..=49_300, Monthly(Day(7), Yearly), Index, tax 0..=0;
    /// In three grades, to the caretaker. Paid on the 7th [Days].
    DISABILITY_ALLOWANCE_UNDER_16 = "disability-allowance-for-persons-under-16":
        "Disability allowance for persons under 16 years of age", "Alle 16-vuotiaan vammaistuki",
        "Handikappbidrag för barn under 16 år";
        PAID, 10_900..=49_300, Monthly(Day(7), Yearly), Index, tax 0..=0;
    /// In three grades. Paid on the 7th [Days].
    CARE_ALLOWANCE_FOR_PENSIONERS = "care-allowance-for-pensioners":
        "Care allowance for pensioners", "Eläkettä saavan hoitotuki", "Vårdbidrag för pensionstagare";
        PAID, 8_300..=38_500, Monthly(Day(7), Yearly), Index, tax 0..=0;

    // Families. What is paid for a child is kept under the caretaker it is paid to.

    /// Paid by 25 working days, here by the month.
    PREGNANCY_ALLOWANCE = "pregnancy-allowance":
        "Pregnancy allowance", "Raskausraha", "Graviditetspenning";
        PAID, 79_975..=320_000, Monthly(Arrears, Decided::Once), None, tax 15..=35;
    /// Paid by 25 working days, here by the month.
    PARENTAL_ALLOWANCE = "parental-allowance":
        "Parental allowance", "Vanhempainraha", "Föräldrapenning";
        PAID, 79_975..=300_000, Monthly(Arrears, Decided::Once), None, tax 15..=35;
    /// From one child's 94.88 € to that of several children with a single caretaker's supplement. Paid on the 26th
    /// [Days].
    CHILD_BENEFIT = "child-benefit":
        "Child benefit", "Lapsilisä", "Barnbidrag";
        PAID, 9_488..=60_000, Monthly(PayDay::ChildBenefit, Decided::Once), None, tax 0..=0;
    /// Care allowance and supplement. Paid on the last banking day.
    CHILD_HOME_CARE_ALLOWANCE = "child-home-care-allowance":
        "Child home care allowance", "Lasten kotihoidon tuki", "Hemvårdsstöd";
        PAID, 37_700..=70_000, Monthly(LastBankingDay, Decided::Once), None, tax 20..=30;
    /// Paid to the day care provider, on the last banking day.
    PRIVATE_DAY_CARE_ALLOWANCE = "private-day-care-allowance":
        "Private day care allowance", "Lasten yksityisen hoidon tuki", "Stöd för privat vård av barn";
        PAID, 18_000..=40_000, Monthly(LastBankingDay, Every(12)), None, tax 0..=0;
    /// By the number of children. Paid on the 10th [Days].
    CHILD_MAINTENANCE_ALLOWANCE = "child-maintenance-allowance":
        "Child maintenance allowance", "Elatustuki", "Underhållsstöd";
        PAID, 10_000..=42_000, Monthly(Day(10), Yearly), Index, tax 0..=0;

    // Students and conscripts.

    /// Paid on the first banking day, September to May.
    STUDY_GRANT = "study-grant":
        "Study grant", "Opintoraha", "Studiepenning";
        PAID, 10_000..=39_000, Monthly(FirstBankingDay, Decided::Once), None, tax 0..=0;
    /// Students' support for housing, again since August 2025. Paid with the study grant.
    HOUSING_SUPPLEMENT = "housing-supplement":
        "Housing supplement", "Opintotuen asumislisä", "Bostadstillägg";
        PAID, 8_000..=29_600, Monthly(FirstBankingDay, Decided::Once), None, tax 0..=0;
    /// The amount that may be borrowed a month.
    STUDENT_LOAN_GUARANTEE = "student-loan-guarantee":
        "Government guarantee for student loans", "Opintolainan valtiontakaus", "Statsborgen för studielån";
        GUARANTEED, 30_000..=85_000, Guarantee, None, tax 0..=0;
    /// Basic assistance and housing. Paid on the first banking day.
    CONSCRIPTS_ALLOWANCE = "conscripts-allowance":
        "Conscript's allowance", "Sotilasavustus", "Militärunderstöd";
        PAID, 20_000..=95_000, Monthly(FirstBankingDay, Decided::Once), Index, tax 0..=0;

    // Reimbursements.

    /// The annual maximum limit is kept under it as well.
    REIMBURSEMENT_OF_MEDICINE_COSTS = "reimbursement-of-medicine-costs":
        "Reimbursement of medicine costs", "Lääkekorvaus", "Läkemedelsersättning";
        MEDICINE, 500..=40_000, Form::Once, None, tax 0..=0;
    /// Doctors' fees, examinations and treatment.
    REIMBURSEMENT_OF_PRIVATE_MEDICAL_CARE = "reimbursement-of-private-medical-care":
        "Reimbursement of private medical care", "Yksityisen sairaanhoidon korvaus", "Ersättning för privat sjukvård";
        REIMBURSED, 800..=15_000, Form::Once, None, tax 0..=0;
    /// Private dental care.
    REIMBURSEMENT_OF_DENTAL_CARE = "reimbursement-of-dental-care":
        "Reimbursement of dental care", "Hammashoidon korvaus", "Ersättning för tandvård";
        REIMBURSED, 1_500..=20_000, Form::Once, None, tax 0..=0;
    /// Travel to care and rehabilitation.
    REIMBURSEMENT_OF_TRAVEL_COSTS = "reimbursement-of-travel-costs":
        "Reimbursement of travel costs", "Matkakorvaus", "Reseersättning";
        REIMBURSED, 500..=25_000, Form::Once, None, tax 0..=0;

    // Insurance.

    /// Under the Health Insurance Act.
    HEALTH_INSURANCE = "health-insurance":
        "Health insurance", "Sairausvakuutus", "Sjukförsäkring";
        INSURED, 0..=0, Form::Insurance, None, tax 0..=0;
    /// Coverage by Finnish social security.
    RESIDENCE_BASED_SOCIAL_SECURITY = "residence-based-social-security":
        "Residence-based social security", "Asumisperusteinen sosiaaliturva", "Bosättningsbaserad social trygghet";
        INSURED, 0..=0, Form::Insurance, None, tax 0..=0;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use airut_domain::id;

    use super::*;

    #[test]
    fn ids_are_distinct_and_fit_for_contracts() {
        let ids: BTreeSet<_> = ALL.iter().map(|benefit| benefit.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for benefit in ALL {
            assert!(benefit.id.parse::<id::Benefit>().is_ok(), "{}", benefit.id);
            assert!(benefit.id.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit()));
            assert_eq!(find(benefit.id).map(|found| found.id), Some(benefit.id));
        }
    }

    #[test]
    fn indexed_amounts_follow_the_index_and_others_stay() {
        assert_eq!(GUARANTEE_PENSION.cents_in(2025, 99_090), 98_630);
        assert_eq!(GUARANTEE_PENSION.cents_in(2026, 99_090), 99_090);
        assert_eq!(CHILD_BENEFIT.cents_in(2024, 9_488), 9_488);
    }
}
